"""StaticEmbedding equals the reference's, reads every folder that holds one, and is distilled without model2vec."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.sentence_transformer.modules import StaticEmbedding as ReferenceStatic
from small import WORDS, sentences, small_model_folder, small_tokenizer

from likewise import SentenceTransformer
from likewise.models import Dense, Normalize, Pooling, StaticEmbedding, Transformer

D = 12
TEXTS = [*sentences(20), "", "zzz a dog", "the cat."]


def tokenizer() -> Any:
    return small_tokenizer().backend_tokenizer


def vectors(seed: int = 0) -> torch.Tensor:
    return torch.randn(tokenizer().get_vocab_size(), D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model() -> SentenceTransformer:
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer(), vectors())], device="cpu")


@pytest.fixture
def reference() -> Any:
    return Reference(modules=[ReferenceStatic(tokenizer(), vectors())], device="cpu")


@pytest.mark.parametrize(
    "options", [{}, {"prompt": "the "}, {"normalize_embeddings": True}, {"truncate_dim": 5}]
)
def test_embeddings_equal_the_reference(model: Any, reference: Any, options: dict[str, Any]) -> None:
    np.testing.assert_allclose(model.encode(TEXTS, **options), reference.encode(TEXTS, **options), atol=1e-6)


def test_tokenize_and_forward_by_the_references_features(model: Any, reference: Any) -> None:
    ours, theirs = model.tokenize(TEXTS), reference.preprocess(TEXTS)
    for name in ("input_ids", "offsets"):
        assert torch.equal(ours[name], theirs[name])
    expected = reference(theirs)["sentence_embedding"]
    torch.testing.assert_close(model(ours)["sentence_embedding"], expected)


def test_padded_features_are_taken(model: Any) -> None:
    ids = torch.tensor([[5, 6, 0], [7, 0, 0]])
    found = model({"input_ids": ids, "attention_mask": (ids > 0).long()})["sentence_embedding"]
    torch.testing.assert_close(found, torch.stack([vectors()[[5, 6]].mean(0), vectors()[7]]))


def test_gradients_equal_the_reference(model: Any, reference: Any) -> None:
    weights = torch.randn(len(TEXTS), D)
    tokens = model.token_sequences(TEXTS).pack()
    (model({"tokens": tokens})["sentence_embedding"] * weights).sum().backward()
    (reference(reference.preprocess(TEXTS))["sentence_embedding"] * weights).sum().backward()
    torch.testing.assert_close(model[0].embedding.weight.grad, reference[0].embedding.weight.grad)


def test_a_text_is_the_mean_of_its_tokens_and_an_empty_one_is_zero(model: Any) -> None:
    ids = model.tokenizer.encode("a small dog", add_special_tokens=False).ids
    np.testing.assert_allclose(model.encode("a small dog"), vectors()[ids].mean(dim=0), atol=1e-6)
    assert not model.encode("").any()
    assert model.max_seq_length == math.inf
    assert model.get_embedding_dimension() == D


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_folders_are_exchanged_with_the_reference_both_ways(
    model: Any, reference: Any, tmp_path: Path, safe: bool
) -> None:
    model.save(tmp_path / "ours", safe_serialization=safe)
    reference.save(str(tmp_path / "theirs"), safe_serialization=safe)
    expected = reference.encode(TEXTS)
    for found in (Reference(str(tmp_path / "ours"), device="cpu"), SentenceTransformer(tmp_path / "theirs")):
        np.testing.assert_allclose(found.encode(TEXTS), expected, atol=1e-6)


def model2vec_folder(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file({"embeddings": vectors(), **tensors}, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "model2vec", "normalize": true}')
    types = ("StaticEmbedding", "Normalize")
    listing = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{types[i]}"}
        for i, path in enumerate((".", "1_Normalize"))
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    return folder


def test_model2vec_folders_load_whole_and_by_from_model2vec(tmp_path: Path) -> None:
    folder = model2vec_folder(tmp_path / "m2v")
    expected = Reference(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(SentenceTransformer(folder, device="cpu").encode(TEXTS), expected, atol=1e-6)
    static = StaticEmbedding.from_model2vec(folder)
    assert torch.equal(static.embedding.weight, vectors())
    assert static.base_model == str(folder)


def test_mapped_and_weighted_model2vec_vectors_are_multiplied_out(tmp_path: Path) -> None:
    size = len(vectors())
    mapping, weights = torch.randint(size, (size,)), torch.rand(size, dtype=torch.float64)
    folder = model2vec_folder(tmp_path / "m2v", mapping=mapping, weights=weights)
    found = StaticEmbedding.from_model2vec(folder).embedding.weight
    torch.testing.assert_close(found, vectors()[mapping] * weights.float().unsqueeze(1))
    expected = ReferenceStatic.load(str(folder)).embedding.weight
    torch.testing.assert_close(found, expected)


def test_whole_number_vectors_become_float32(tmp_path: Path) -> None:
    quantised = (vectors() * 20).to(torch.int8)
    folder = model2vec_folder(tmp_path / "m2v", embeddings=quantised)
    assert torch.equal(StaticEmbedding.from_model2vec(folder).embedding.weight, quantised.float())


def test_the_references_layouts_are_found_by_from_model2vec(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "root")
    assert torch.equal(StaticEmbedding.from_model2vec(tmp_path / "root").embedding.weight, vectors())
    model.save(tmp_path / "nested" / "0_StaticEmbedding")
    assert torch.equal(StaticEmbedding.from_model2vec(tmp_path / "nested").embedding.weight, vectors())
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json in .*none"):
        StaticEmbedding.from_model2vec(tmp_path / "none")


@pytest.mark.parametrize("behind", [[Dense(D, 6)], [Normalize()]], ids=["Dense", "Normalize"])
def test_modules_behind_it_are_kept(behind: list[Any], tmp_path: Path) -> None:
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), vectors()), *behind], device="cpu")
    model.save(tmp_path / "model")
    theirs = Reference(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), theirs.encode(TEXTS), atol=1e-6)


def test_training_brings_pairs_together(tmp_path: Path) -> None:
    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    model = SentenceTransformer(modules=[StaticEmbedding(small_tokenizer(), embedding_dim=32)], device="cpu")
    texts = list(dict.fromkeys(sentences(64, longest=5)))
    data = Dataset.from_dict(
        {"anchor": texts, "positive": [" ".join(text.split()[::-1]) + " blue" for text in texts]}
    )
    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=30, per_device_train_batch_size=16, learning_rate=0.1,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=10,
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(model, args, data, loss=losses.MultipleNegativesRankingLoss(model))
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[-1] < 0.5 * logged[0]


# Distillation


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model_folder(tmp_path_factory.mktemp("teacher"))


def by_hand(teacher: str, token: str) -> torch.Tensor:
    """A token's mean output of the teacher, with [CLS] and [SEP] around it."""
    transformer = Transformer(teacher).eval()
    number = transformer.tokenizer.convert_tokens_to_ids(token)
    ids = torch.tensor([[2, number, 3]])
    with torch.no_grad():
        features = Pooling(32)(transformer({"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
    embedding: torch.Tensor = features["sentence_embedding"][0]
    return embedding


def test_distilled_vectors_are_the_teachers_outputs_for_each_token(teacher: str) -> None:
    static = StaticEmbedding.from_distillation(teacher, device="cpu", pca_dims=None, sif_coefficient=None)
    vocabulary = static.tokenizer.get_vocab()
    assert set(vocabulary) == set(small_tokenizer().get_vocab()) - {"[CLS]", "[SEP]", "[MASK]"}
    for token in ("cat", "##x", "[UNK]"):
        torch.testing.assert_close(
            static.embedding.weight[vocabulary[token]], by_hand(teacher, token), atol=1e-5, rtol=1e-4
        )


def test_principal_components_and_weights_are_those_of_the_formula(teacher: str) -> None:
    plain = StaticEmbedding.from_distillation(teacher, device="cpu", pca_dims=None, apply_zipf=False)
    static = StaticEmbedding.from_distillation(teacher, device="cpu", pca_dims=8, sif_coefficient=1e-3)
    values = plain.embedding.weight.detach().double().numpy()
    size = len(values)
    probability = 1 / np.arange(2, size + 2)
    weights = 1e-3 / (1e-3 + probability / probability.sum())
    centred = values - values.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs(centred @ components[:8].T) * weights[:, None]  # a component's sign is a convention
    found = static.embedding.weight.detach().numpy()
    np.testing.assert_allclose(np.abs(found), expected, atol=1e-5)
    unweighted = found / weights[:, None]
    assert (unweighted[np.abs(unweighted).argmax(axis=0), range(8)] > 0).all()


def test_words_of_ones_own_become_tokens(teacher: str) -> None:
    words = ["raincoat", "old city", "cat", "raincoat"]
    static = StaticEmbedding.from_distillation(
        teacher, vocabulary=words, device="cpu", pca_dims=None, sif_coefficient=None
    )
    tokens = static.tokenizer.encode("A Raincoat, raincoats of the old city", add_special_tokens=False).tokens
    assert "raincoat" in tokens
    assert "old city" in tokens
    assert tokens.count("raincoat") == 1  # and no part of a longer word
    whole = SentenceTransformer(modules=[Transformer(teacher), Pooling(32)], device="cpu")
    vector = static.embedding.weight[static.tokenizer.token_to_id("old city")]
    torch.testing.assert_close(vector.detach().numpy(), whole.encode("old city"), atol=1e-5, rtol=1e-4)


def test_a_vocabulary_without_subwords_knows_its_words_only(teacher: str) -> None:
    static = StaticEmbedding.from_distillation(
        teacher, vocabulary=["cat", "sun", "raincoat"], device="cpu", pca_dims=None, use_subword=False
    )
    assert set(static.tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "cat", "sun", "raincoat"}
    assert static.tokenizer.encode("the CAT in a raincoat", add_special_tokens=False).tokens == [
        "[UNK]", "cat", "[UNK]", "[UNK]", "raincoat",
    ]  # fmt: skip


def test_tokens_of_a_pattern_are_dropped(teacher: str) -> None:
    static = StaticEmbedding.from_distillation(
        teacher, device="cpu", pca_dims=None, token_remove_pattern="##"
    )
    assert not [token for token in static.tokenizer.get_vocab() if token.startswith("##")]
    assert static.num_embeddings == static.tokenizer.get_vocab_size()


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_other_kinds_of_tokenizers_are_reduced_without_changing_how_they_cut(kind: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from likewise.modules.distillation import _kept_ids, _reduced

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made = Tokenizer(models.BPE(unk_token="<unk>") if kind == "BPE" else models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer_class = trainers.BpeTrainer if kind == "BPE" else trainers.UnigramTrainer
    options = {"vocab_size": 150, "special_tokens": special, "show_progress": False}
    made.train_from_iterator(
        sentences(300), trainer_class(**options, **({} if kind == "BPE" else {"unk_token": "<unk>"}))
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    whole = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    reduced = _reduced(whole, _kept_ids(whole, "▁(cat|dog)$", True), word_level=False)
    assert set(whole.get_vocab()) - set(reduced.get_vocab()) >= {"<s>", "</s>"}
    assert not {"▁cat", "▁dog"} & set(reduced.get_vocab())
    assert sorted(reduced.get_vocab().values()) == list(range(reduced.get_vocab_size()))
    text = "the bird finds a river"
    assert (
        reduced.encode(text, add_special_tokens=False).tokens
        == made.encode(text, add_special_tokens=False).tokens
    )


@pytest.mark.parametrize(
    "options",
    [
        {"pca_dims": None, "sif_coefficient": None},
        {"pca_dims": 8},
        {"pca_dims": 8, "sif_coefficient": 1e-3, "token_remove_pattern": "##"},
        {"pca_dims": 8, "vocabulary": ["raincoat", "sunflower", "cat"]},
    ],
    ids=["plain", "components", "pattern", "vocabulary"],
)
def test_distilled_vectors_equal_model2vecs(teacher: str, options: dict[str, Any]) -> None:
    pytest.importorskip("model2vec.distill")
    from sentence_transformers.models import StaticEmbedding as ReferenceEmbedding

    here = StaticEmbedding.from_distillation(teacher, device="cpu", quantize_to="float32", **options)
    there = ReferenceEmbedding.from_distillation(teacher, device="cpu", quantize_to="float32", **options)
    numbers, theirs = here.tokenizer.get_vocab(), there.tokenizer.get_vocab()
    assert numbers.keys() == theirs.keys()
    order = sorted(numbers)
    ours = here.embedding.weight[[numbers[token] for token in order]].detach()
    expected = there.embedding.weight[[theirs[token] for token in order]].detach()
    # The direction of a principal component is a convention, so vectors are compared by their products.
    torch.testing.assert_close(ours @ ours.T, expected @ expected.T, atol=1e-5, rtol=1e-4)
    for text in ("the cat sees a bird in the old city", "A dog runs by the river."):
        found = here.tokenizer.encode(text, add_special_tokens=False).tokens
        assert found == there.tokenizer.encode(text, add_special_tokens=False).tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize_to": "int8"}, "`quantize_to` must be one of float16, float32, float64"),
        ({"sif_coefficient": 2.0}, "`sif_coefficient` must lie between 0 and 1, but is 2"),
        ({"use_subword": False}, "there must be a `vocabulary`"),
        ({"token_remove_pattern": "("}, "no regular expression"),
        ({"token_remove_pattern": ""}, "removes every token"),
        ({"pca_dims": 0}, "`pca_dims` must be a whole number of at least 1"),
    ],
    ids=str,
)
def test_what_cannot_be_distilled_is_named(teacher: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StaticEmbedding.from_distillation(teacher, device="cpu", **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a",), "`tokenizer` must be a fast tokenizer, but is str"),
        ((small_tokenizer(),), "either `embedding_weights` or `embedding_dim`"),
        ((small_tokenizer(), np.zeros((3, 4), np.float32)), "a vector for each of the tokenizer's"),
    ],
)
def test_wrong_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StaticEmbedding(*arguments)


def test_half_precision_vectors_stay_half(tmp_path: Path) -> None:
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), vectors().half())], device="cpu")
    model.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = SentenceTransformer(tmp_path, device="cpu")
    assert again[0].embedding.weight.dtype == torch.float16
    expected = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), vectors())]).encode(WORDS)
    np.testing.assert_allclose(again.encode(WORDS), expected, atol=5e-3)
