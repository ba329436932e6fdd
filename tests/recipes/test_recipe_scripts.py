"""The recipes that are scripts run from end to end on a little data of the same form."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from small import sentences

from likewise import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from likewise.hybrid import HybridEncoder

SCORE = r"-?\d\.\d{4}"
INTERVAL = rf"{SCORE} \({SCORE} to {SCORE}\)"
DIFFERENCE = r"[+-]\d\.\d{4} \([+-]\d\.\d{4} to [+-]\d\.\d{4}\)"


@pytest.mark.slow
def test_training_from_nothing_leaves_a_static_model_with_its_own_tokenizer(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = run("train_from_nothing", "--vocabulary", "120", "--distilled-captions", "20")
    printed = capsys.readouterr().out
    assert [line.partition("  ")[0] for line in printed.splitlines() if "Spearman" in line][:2] == [
        "random vectors",
        "trained on captions",
    ]
    assert "80 rows: anchor, positive" in printed  # two pairs of captions a picture, 20 of 60 left out
    model = SentenceTransformer(str(out), device="cpu")
    assert type(model[0]).__name__ == "StaticEmbedding"
    assert model.tokenizer.get_vocab_size() <= 120
    assert model.encode("a cat").shape == (32,)


@pytest.mark.slow
def test_multilingual_distillation_measures_each_language_before_and_after(
    run: Callable[..., Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = run("multilingual_distillation", "--pairs", "40", "--held-out", "20")
    table = capsys.readouterr().out.partition("Trained in")[2].splitlines()[2:]
    assert [line.split()[0] for line in table] == [
        *(f"{kind}-{language}" for language in ("de", "fr", "zh") for kind in ("translation", "stsb")),
        "stsb-en",
    ]
    found = script.pairs(data, "fr", seed=42)
    assert not set(found["english"]) & {*sentences(400, seed=1)[:80]}
    assert len(set(found["english"])) == len(found)
    assert len(SentenceTransformer(str(out), device="cpu").encode("a cat")) == 32


@pytest.mark.slow
@pytest.mark.parametrize("task", ["questions", "captions"])
def test_mining_trains_the_same_rows_with_and_without_negatives(
    task: str, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("mine_hard_negatives", "--task", task, "--rows", "50", "--queries", "20", "--seeds", "1", saves=False)
    printed = capsys.readouterr().out
    number, _, possible = printed.partition(" pairs have 1 hard negatives")[0].splitlines()[-1].split()
    assert 0 < int(number) <= int(possible) <= 50
    plans = [line for line in printed.splitlines() if line.startswith("  train")]
    assert [plan.split()[1] for plan in plans] == [number] * 2
    assert ["negative" in plan for plan in plans] == [False, True]
    assert [line.partition(":")[0] for line in printed.splitlines() if "nDCG" in line] == [
        "before", "seed 1, pairs", "seed 1, mined",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("task", "max_length"), [(None, "96"), ("retrieval/scifact", "32")])
def test_what_the_dense_model_finds_is_ranked_anew_with_an_interval_of_the_difference(
    task: str | None, max_length: str, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--rows", "24", "--queries", "20", "--depth", "12", "--max-length", max_length)
    _, out = run("retrieve_rerank", *sizes, *(() if task is None else ("--task", task)), flag="--model")
    printed = capsys.readouterr().out
    assert re.search(
        r"rows: anchor=question, positive=sentence, negative=negative_1, .*-> MultipleNeg", printed
    )
    rows = table_of(printed, "ranked by")
    assert [row[0] for row in rows] == ["the dense model", "the reranker", "both"]
    for _, score, gain in rows:
        assert re.fullmatch(DIFFERENCE, gain)
        assert float(gain.split()[0]) == pytest.approx(float(score) - float(rows[0][1]), abs=2e-4)
    assert CrossEncoder(str(out), device="cpu").num_labels == 1


@pytest.mark.slow
def test_three_searches_are_measured_alone_and_fused(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = run("fused_search", "--depth", "12", "--epochs", "1", "--batch-size", "8", flag="--model")
    lines = capsys.readouterr().out.partition("nDCG@10 of")[2].splitlines()[1:]
    names = [re.split(r"  +", line)[0] for line in lines]
    assert names == [
        "words, each counts 1", "words by rarity", "sparse", "dense", "late", "dense + sparse, by ranks",
        "all three, by ranks", "all three, by scores",
    ]  # fmt: skip
    for line in lines:
        assert re.search(r"  [01]\.\d{4} \([01]\.\d{4} to [01]\.\d{4}\)  [+-]", line), line
    assert "  +0.0000 (+0.0000 to +0.0000)" in lines[names.index("dense")]
    assert SparseEncoder(str(out), device="cpu").encode("a cat").is_sparse


@pytest.mark.slow
def test_a_dense_model_becomes_a_sparse_one_whose_head_names_the_tokens_that_are_there(
    run: Callable[..., Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--documents", "30", "--rows", "8", "--regressed", "60", "--batch-size", "8")
    script, out = run("splade_from_dense", *sizes, "--threshold", "3", flag="--model")
    printed = capsys.readouterr().out
    assert int(re.search(r"names (\d+)% of the tokens", printed)[1]) > 90  # type: ignore[index]
    assert (
        len(re.findall(r"nDCG@10 0\.\d{4}; active entries \d+ of a query, \d+ of a document", printed)) == 2
    )
    assert re.search(rf"nDCG@10 {INTERVAL} -> {INTERVAL}: {DIFFERENCE}", printed)
    model = SparseEncoder(str(out), device="cpu")
    task = script.read_folder(data / "retrieval/scifact", "test")
    assert len(script.search(task, 30).corpus) == 30
    assert model.encode(["a cat"]).is_sparse
    head = model[0].auto_model.cls.predictions
    assert head.decoder.weight is model[0].auto_model.get_input_embeddings().weight
    assert (head.decoder.bias < -1).all()  # the threshold is saved


@pytest.mark.slow
def test_late_interaction_starts_from_principal_components_and_is_measured_at_each_step(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--rows", "20", "--queries", "12", "--batch-size", "8")
    script, out = run("late_interaction", *sizes, flag="--model")
    printed = capsys.readouterr().out
    for name in ("SQuAD", "TREC QA"):
        rows = table_of(printed, f"nDCG@10, {name}")
        assert [row[0] for row in rows] == ["a random projection", "principal components", "trained"]
        assert rows[0][2] == rows[1][3] == "+0.0000 (+0.0000 to +0.0000)"
        assert all(re.fullmatch(INTERVAL, row[1]) and re.fullmatch(DIFFERENCE, row[2]) for row in rows)
    model = MultiVectorEncoder(str(out), device="cpu")
    script.start_projection(model, Dataset.from_dict({"a": sentences(40, seed=5)}))
    tokens = MultiVectorEncoder(modules=[model[0]], device="cpu").encode(sentences(40, seed=5))
    directions = torch.nn.functional.normalize(torch.cat(tokens), dim=1)
    kept = directions @ model[1].linear.weight.T
    assert kept.norm() > 0.999 * directions.norm()  # all 32 of them


@pytest.mark.slow
def test_three_searches_of_one_transformer_are_measured_before_and_after(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = run(
        "hybrid_search",
        "--depth",
        "12",
        "--epochs",
        "1",
        "--documents",
        "20",
        "--batch-size",
        "8",
        flag="--model",
    )
    lines = capsys.readouterr().out.partition("nDCG@10 of")[2].splitlines()[1:]
    names = [re.split(r"  +", line)[0] for line in lines]
    three = ["dense", "sparse", "late"]
    assert names == [
        *three,
        "dense + sparse, by ranks",
        "all three, by ranks",
        "all three, by scores",
    ]
    for line in lines:
        assert re.search(rf"  {INTERVAL}  {INTERVAL}  {DIFFERENCE}  {DIFFERENCE}  {DIFFERENCE}$", line), line
    none = "+0.0000 (+0.0000 to +0.0000)"
    assert re.split(r"  +", lines[0])[4] == re.split(r"  +", lines[2])[5] == none  # to itself
    kinds = SentenceTransformer, SparseEncoder, MultiVectorEncoder
    loaded = {name: kind(str(out / name), device="cpu") for name, kind in zip(three, kinds, strict=True)}
    found = HybridEncoder(**loaded).encode("a cat")
    assert found["sparse"].is_sparse
    assert found["late"].ndim == 2


def test_of_a_ranking_counts_where_the_right_one_stands_among_the_first_ten(
    script_of: Callable[[str], Any],
) -> None:
    script = script_of("retrieve_rerank")
    right = np.zeros((3, 12), dtype=bool)
    right[0, 5] = right[1, 11] = True
    ascending = np.tile(np.arange(12.0), (3, 1))
    one = np.ones(3, dtype=int)
    assert script.ndcg(ascending, right, one).rows[0] == pytest.approx([1 / np.log2(8), 1, 0])
    assert script.ndcg(-ascending, right, one).rows[0] == pytest.approx([1 / np.log2(7), 0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["semantic", "words"])
def test_silver_pairs_are_new_and_come_on_top_of_the_gold_ones(
    sampling: str, run: Callable[..., Any], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--gold-pairs", "24", "--silver-pairs", "30", "--teacher-epochs", "1", "--layers", "1")
    script, _ = run("augmented_sbert", "--sampling", sampling, *sizes, saves=False)
    printed = capsys.readouterr().out
    assert [line.partition("  ")[0] for line in printed.splitlines() if "spearman_cosine" in line] == [
        "as it is",
        "24 gold",
        "24 gold + 30 silver",
    ]
    assert "54 rows: sentence1, sentence2" in printed
    assert re.search(rf"^what silver adds: {DIFFERENCE} \(95 %\)$", printed, re.MULTILINE)
    gold = script.first(script.DOMAINS["stsb"].pairs(data, True), 24, 1)
    known = [frozenset(pair) for pair in zip(gold["sentence1"], gold["sentence2"], strict=True)]
    options = SimpleNamespace(sampling="words", neighbours=2, silver_pairs=20, seed=1)
    silver = [frozenset(pair) for pair in script.sampled_pairs(gold, None, options)]
    assert len(set(silver)) == len(silver) == 20
    assert not {*silver} & {*known}


@pytest.mark.slow
@pytest.mark.parametrize(("gold", "metric"), [("stsb", "cosine_ap"), ("mrpc", "spearman_cosine")])
def test_labels_of_one_domain_become_silver_of_another(
    gold: str, metric: str, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--gold-pairs", "24", "--silver-pairs", "18", "--teacher-epochs", "1", "--layers", "1")
    run("augmented_sbert", "--form", "cross-domain", "--gold", gold, *sizes, saves=False)
    printed = capsys.readouterr().out
    golden = 24 if gold == "stsb" else 15  # of MRPC without what overlaps with the test
    assert [line.split(metric)[0].strip() for line in printed.splitlines() if metric in line] == [
        "as it is",
        f"{golden} gold",
        "18 silver",
    ]


@pytest.mark.slow
def test_a_model_learns_the_margins_of_a_cross_encoder(
    run: Callable[..., Any], data: Path, small_reranker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script, out = run("distil_reranker", "--reranker", small_reranker, "--triplets", "20", flag="--model")
    printed = capsys.readouterr().out
    assert "cross-encoder: ndcg@10 0." in printed
    assert "20 rows: query, positive, negative" in printed
    before, *others = (float(number) for number in re.findall(r"ndcg@10 (\d\.\d{4})", printed))
    gains = [float(gain.split()[0]) for gain in re.findall(rf"; ({DIFFERENCE}) \(95 %\)", printed)]
    assert gains == pytest.approx([other - before for other in others], abs=2e-4)
    assert len(SentenceTransformer(str(out), device="cpu").encode("a cat")) == 32
    found = script.answers(data, "train")
    rows = script.triplets(found, 20, seed=1)
    assert len(set(rows)) == 20
    assert all(right in found[query][1] and wrong in found[query][0] for query, right, wrong in rows)


def table_of(printed: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins so, in cells."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if re.match(rf"{re.escape(first)}  ", line))
    rows = []
    for line in lines[start + 1 :]:
        if not line:
            break
        rows.append(re.split(r" {2,}", line.strip()))
    return rows


@pytest.mark.slow
def test_matryoshka_has_a_line_for_each_size_beside_the_model_without(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("matryoshka_sizes", "--sizes", "32", "8", saves=False)
    rows = table_of(capsys.readouterr().out, "entries")
    assert [row[0] for row in rows] == ["32", "8"]
    for _, *scores, gain in rows:
        assert len(scores) == 3
        assert all(re.fullmatch(SCORE, score) for score in scores)
        assert re.fullmatch(DIFFERENCE, gain)
        assert float(gain.split()[0]) == pytest.approx(float(scores[2]) - float(scores[1]), abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[], ["32", "8"]])
def test_adaptive_layers_are_measured_with_their_speed_after_each_layer(
    sizes: list[str], run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("adaptive_layers", *(["--sizes", *sizes] if sizes else []), saves=False)
    rows = table_of(capsys.readouterr().out, "layers")
    assert [row[:2] for row in rows] == [[layers, size] for layers in "21" for size in sizes or ["32"]]
    for *_, before, after, speed in rows:
        assert re.fullmatch(SCORE, before)
        assert re.fullmatch(SCORE, after)
        assert re.fullmatch(r"\d+\.\d", speed)


@pytest.mark.slow
def test_a_student_with_fewer_layers_comes_nearer_to_its_teacher(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("distil_layers", "--layers", "1", saves=False)
    rows = table_of(capsys.readouterr().out, "model")
    assert [row[0] for row in rows] == ["teacher", "1 layers, before", "1 layers, after"]
    assert all(re.fullmatch(INTERVAL, row[1]) for row in rows)
    assert rows[0][2] == "1.0"


@pytest.mark.slow
def test_fewer_dimensions_are_compared_as_components_cut_and_int8(
    run: Callable[..., Any], teacher: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script, _ = run("distil_dimensions", "--entries", "8", saves=False)
    rows = table_of(capsys.readouterr().out, "model")
    assert [row[0] for row in rows][:4] == [
        "all 32 entries",
        "the first 8",
        "8 components",
        "8 components, embeddings in int8",
    ]
    assert rows[4][0].startswith("8 components, weights in int8")
    assert all(re.fullmatch(INTERVAL, row[1]) for row in rows)

    model = SentenceTransformer(teacher, device="cpu")
    texts = sentences(50)
    embeddings = model.encode(texts)
    smaller = script.with_components(model, embeddings, 8)
    smaller.save_pretrained(str(tmp_path / "smaller"))
    found = SentenceTransformer(str(tmp_path / "smaller"), device="cpu").encode(texts)
    centred = embeddings - embeddings.mean(axis=0)
    assert found.shape == (50, 8)
    own = np.linalg.svd(centred, compute_uv=False)[:8] ** 2
    assert np.allclose(((found - found.mean(axis=0)) ** 2).sum(axis=0), own, rtol=1e-3)


@pytest.mark.slow
def test_tsdae_restores_damaged_captions(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    run("tsdae", saves=False)
    printed = capsys.readouterr().out
    assert "40 rows: damaged, original=sentence -> DenoisingAutoEncoderLoss" in printed
    ((name, before, after, gain),) = table_of(printed, "measured with")
    assert name == "stsb-test"
    assert re.fullmatch(DIFFERENCE, gain)
    assert float(gain.split()[0]) == pytest.approx(float(after) - float(before), abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
def test_gpl_learns_the_margins_of_a_teacher_of_either_kind(
    pairs: bool, run: Callable[..., Any], small_reranker: str, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = ["--teacher", small_reranker] if pairs else []
    run("gpl", "--layers", "1", "--queries", "20", *teacher, saves=False)
    printed = capsys.readouterr().out
    assert "-> MarginMSELoss" in printed
    ((name, *_, gain),) = table_of(printed, "measured with")
    assert name == "questions"
    assert re.fullmatch(DIFFERENCE, gain)
    assert re.search(rf"the teacher's model, all layers: {SCORE}$", printed, re.MULTILINE)


@pytest.mark.slow
def test_domain_adaptation_compares_with_and_without_the_domains_texts(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("domain_adaptation", "--queries", "20", saves=False)
    printed = capsys.readouterr().out
    rows = table_of(printed, "trained on")
    assert [row[0] for row in rows] == ["as it is", "labelled pairs", "domain alone", "domain, then pairs"]
    assert rows[0][2].startswith("+0.0000")
    assert re.search(rf"what reading the domain first adds: {DIFFERENCE}$", printed, re.MULTILINE)


@pytest.mark.slow
def test_a_search_prints_its_trials_and_stops_those_that_lag_behind(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("hyperparameter_search", "--batch-size", "8", "--measured-every", "2", "--trials", "6", saves=False)
    printed = capsys.readouterr().out
    rows = table_of(printed, "trial")
    assert [row[0] for row in rows] == list("012345")
    stopped = [row for row in rows if "yes" in row]
    assert stopped
    assert all(int(row[-2]) < 8 for row in stopped)
    whole = {row[0]: float(row[-1]) for row in rows if row not in stopped}
    best = re.findall(r"^best: trial (\d)$", printed, re.MULTILINE)
    assert whole[best[0]] == max(whole.values())
    ((name, *_, gain),) = table_of(printed, "measured with")
    assert name == "stsb-test"
    assert re.fullmatch(DIFFERENCE, gain)


@pytest.mark.slow
def test_two_processes_train_and_one_of_them_prints(
    run: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    run("distributed", "--queries", "20", "--rows", "32", "--batch-size", "16", saves=False)
    printed = capfd.readouterr().out
    assert printed.count("2 processes, 2 steps") == 1
    ((name, *_, gain),) = table_of(printed, "measured with")
    assert name == "questions"
    assert re.fullmatch(DIFFERENCE, gain)


@pytest.mark.slow
def test_the_blogs_first_script_runs(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    run("blog_one_data_set", saves=False)
    printed = capsys.readouterr().out
    assert "10 rows: anchor, positive, negative -> MultipleNegativesRankingLoss" in printed
    rows = table_of(printed, "metric")
    assert rows[0][0] == "all-nli-dev_cosine_accuracy"
    assert len(rows[0]) == 3
    assert rows[1][0] == "all-nli-test_cosine_accuracy"
    assert Path("models/mpnet-base-all-nli-triplet/final/README.md").is_file()


@pytest.mark.slow
def test_the_blogs_second_script_runs(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    run("blog_several_data_sets", saves=False)
    printed = capsys.readouterr().out
    for name, loss in (("all-nli-pair-class", "SoftmaxLoss"), ("quora", "CoSENTLoss")):
        assert re.search(rf"{name}.*rows.*-> {loss}", printed)
    ((name, *_, gain),) = table_of(printed, "measured with")
    assert name == "stsb-test"
    assert re.fullmatch(DIFFERENCE, gain)
    assert Path("models/bert-base-all-nli-stsb-quora-nq/README.md").is_file()
