"""`fit`, its data sets, data loaders and readers: training of the older kind, on top of the trainer."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers as reference
import sentence_transformers.sentence_transformer.losses as reference_losses
import torch
from sentence_transformers.sentence_transformer.readers import InputExample as ReferenceExample
from torch.utils.data import DataLoader
from training_common import triplets

from likewise import SentenceTransformer, losses
from likewise.datasets import (
    DenoisingAutoEncoderDataset,
    NoDuplicatesDataLoader,
    ParallelSentencesDataset,
    SentenceLabelDataset,
    SentencesDataset,
)
from likewise.evaluation import TripletEvaluator
from likewise.readers import (
    InputExample,
    NLIDataReader,
    PairedFilesReader,
    STSDataReader,
)


def examples(number: int = 32, make: Any = InputExample) -> list[Any]:
    data = triplets(number)
    return [make(texts=[row["anchor"], row["positive"]]) for row in data]


def scored(number: int = 32, make: Any = InputExample) -> list[Any]:
    scores = random.Random(0)
    return [make(texts=example.texts, label=scores.random()) for example in examples(number)]


def evaluator() -> TripletEvaluator:
    data = triplets(24, seed=9)
    return TripletEvaluator(data["anchor"], data["positive"], data["negative"], name="dev")


def quiet(**changes: Any) -> dict[str, Any]:
    return {"show_progress_bar": False, "warmup_steps": 2, "optimizer_params": {"lr": 1e-3}} | changes


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_one_objective_in_order_trains_as_in_the_reference(folder: str, tmp_path: Path) -> None:
    found = []
    for library, kinds, make in (
        (None, losses, InputExample),
        (reference, reference_losses, ReferenceExample),
    ):
        kind = SentenceTransformer if library is None else library.SentenceTransformer
        model = kind(folder, device="cpu")
        loader: Any = DataLoader(scored(32, make), batch_size=8, shuffle=False)
        run = model.old_fit if library is not None else model.fit  # the reference's own fit shuffles
        run([(loader, kinds.CosineSimilarityLoss(model))], epochs=2, **quiet())
        found.append(weights(model))
    assert torch.allclose(found[0], found[1], atol=2e-5)


def test_several_objectives_an_evaluator_and_a_callback_take_their_turns(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    calls: list[tuple[float, float, int]] = []
    before = weights(model)
    model.fit(
        [
            (
                DataLoader(SentencesDataset(examples(), model), shuffle=True, batch_size=8),
                losses.MultipleNegativesRankingLoss(model),
            ),
            (NoDuplicatesDataLoader(scored(24), 8), losses.CosineSimilarityLoss(model)),
        ],
        evaluator=evaluator(),
        epochs=2,
        evaluation_steps=2,
        output_path=str(tmp_path / "best"),
        callback=lambda *call: calls.append(call),
        **quiet(),
    )
    assert [call[1:] for call in calls] == [(0, 2 * 2), (0, -1), (1, 2 * 2), (1, -1)]
    assert not torch.equal(before, weights(model))
    assert (
        len((tmp_path / "best" / "eval" / "triplet_evaluation_dev_results.csv").read_text().splitlines()) == 5
    )
    best = SentenceTransformer(str(tmp_path / "best"), device="cpu")
    score = evaluator()(best)["dev_cosine_accuracy"]
    assert score == max(call[0] for call in calls)


def test_every_kind_of_loader_trains_and_noise_is_new_in_every_epoch(model: SentenceTransformer) -> None:
    texts = [example.texts[0] for example in examples(16)]
    seen: list[str] = []

    def noise(text: str) -> str:
        seen.append(DenoisingAutoEncoderDataset.delete(text))
        return seen[-1]

    labelled = [InputExample(texts=[text], label=number % 4) for number, text in enumerate(texts)]
    objectives: list[tuple[Any, Any]] = [
        (
            DataLoader(DenoisingAutoEncoderDataset(texts, noise), batch_size=4),
            losses.MultipleNegativesRankingLoss(model),
        ),
        (DataLoader(SentenceLabelDataset(labelled), batch_size=8), losses.BatchAllTripletLoss(model)),
        (losses.ContrastiveTensionDataLoader(texts, 4, 2), losses.CosineSimilarityLoss(model)),
    ]
    for loader, loss in objectives:
        model.fit([(loader, loss)], epochs=2, **quiet())
    assert len(set(seen)) > 16


def test_steps_checkpoints_and_resume(model: SentenceTransformer, tmp_path: Path) -> None:
    loader: Any = DataLoader(examples(16), batch_size=8)
    loss = losses.MultipleNegativesRankingLoss(model)
    options = quiet(
        steps_per_epoch=3,
        checkpoint_path=str(tmp_path),
        checkpoint_save_steps=2,
        checkpoint_save_total_limit=1,
    )
    model.fit([(loader, loss)], epochs=2, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-6"]
    model.fit([(loader, loss)], epochs=3, resume_from_checkpoint=True, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-9"]


def test_wrong_input_is_refused(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="`train_objectives` is empty"):
        model.fit([])
    pair = (DataLoader(examples(8), batch_size=4), losses.TripletLoss(model))
    for given in (pair[0], [pair[0]], pair, [pair[::-1]], [(pair[0], losses.TripletLoss)], [([], pair[1])]):
        with pytest.raises(
            TypeError, match=r"a SentenceTransformer pairs of one and its loss, `\[\(loader, loss\)\]`"
        ):
            model.fit(given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"TripletLoss takes .* 2 text columns"):
        model.fit([pair], **quiet())
    with pytest.raises(ValueError, match=r"`scheduler` must be 'constantlr', .*but is 'Cosine'"):
        model.fit([pair], scheduler="Cosine")


def test_a_parallel_data_set_labels_translations_with_the_teachers_embeddings(
    model: SentenceTransformer, folder: str, tmp_path: Path
) -> None:
    teacher = SentenceTransformer(folder, device="cpu")
    rows = [["a cat", "the cat"], ["a dog", "the dog", "an old dog"], ["a " * 90, "too long"]]
    path = tmp_path / "parallel.tsv.gz"
    path.write_bytes(gzip.compress("\n".join("\t".join(row) for row in rows).encode()))
    data = ParallelSentencesDataset(model, teacher, batch_size=2)
    data.load_data(str(path), weight=2)
    assert len(data) == 5
    drawn = [data[0] for _ in range(5)]
    assert {example.texts[0] for example in drawn} == {"a cat", "the cat", "a dog", "the dog", "an old dog"}
    for example in drawn:
        source = "a cat" if "cat" in example.texts[0] else "a dog"
        np.testing.assert_allclose(example.label, teacher.encode(source), atol=1e-6)
    model.fit([(DataLoader(data, batch_size=2), losses.MSELoss(model))], **quiet())  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_readers_read_what_the_reference_reads(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer import readers as theirs

    import likewise.readers as ours

    (tmp_path / "sts.tsv").write_text("a\tb\t5.0\nc\td\t2.5\ne\tf\t0\n", encoding="utf-8")
    (tmp_path / "bench.tsv").write_text("x\tx\tx\tx\t4.0\ta\tb\n", encoding="utf-8")
    (tmp_path / "triplets.tsv").write_text("one\ttwo\tthree\na\tb\tc\n", encoding="utf-8")
    (tmp_path / "labels.tsv").write_text("cold\tsnow\nhot\tsun\ncold\tice\n", encoding="utf-8")
    for name, lines in (("s1", "a\nb\n"), ("s2", "c\nd\n"), ("labels", "entailment\nneutral\n")):
        (tmp_path / f"{name}.train.gz").write_bytes(gzip.compress(lines.encode()))
    folder = str(tmp_path)
    calls: list[Any] = [
        lambda r: r.STSDataReader(folder).get_examples("sts.tsv"),
        lambda r: r.STSDataReader(folder, normalize_scores=False).get_examples("sts.tsv", 2),
        lambda r: r.STSBenchmarkDataReader(folder).get_examples("bench.tsv"),
        lambda r: r.TripletReader(folder, has_header=True).get_examples("triplets.tsv"),
        lambda r: r.LabelSentenceReader(folder).get_examples("labels.tsv"),
        lambda r: r.NLIDataReader(folder).get_examples("train.gz"),
        lambda r: r.PairedFilesReader([f"{folder}/sts.tsv", f"{folder}/labels.tsv"]).get_examples(),
    ]
    for call in calls:
        found = [(e.guid, list(e.texts), e.label) for e in call(ours)]
        assert found == [(e.guid, list(e.texts), e.label) for e in call(theirs)]
        assert found
    assert len(STSDataReader(folder).get_examples("sts.tsv", max_examples=1)) == 1
    assert NLIDataReader(folder).get_num_labels() == 3
    assert len(PairedFilesReader([f"{folder}/sts.tsv"]).get_examples(max_examples=2)) == 2


def test_batches_of_examples_are_collated_as_in_the_reference(
    model: SentenceTransformer, folder: str
) -> None:
    columns, labels = model.smart_batching_collate(scored(4))
    theirs, their_labels = reference.SentenceTransformer(folder, device="cpu").smart_batching_collate(
        scored(4, ReferenceExample)
    )
    assert torch.allclose(labels, their_labels)
    for column, other in zip(columns, theirs, strict=True):
        assert torch.equal(column["input_ids"], other["input_ids"])
