"""The modules of models without a transformer: equal to the reference's in value and gradient, folders both ways."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.sentence_transformer import modules as reference
from sentence_transformers.sentence_transformer.modules import tokenizer as reference_tokenizer
from small import WORDS, sentences, small_tokenizer

from likewise import SentenceTransformer, models
from likewise.modules.word_tokenizers import TransformersTokenizerWrapper

D = 8
VOCABULARY = ["PADDING_TOKEN", *WORDS, "New_York", "old_stone_house", "of__the"]
TEXTS = [
    *sentences(12),
    "",
    "The CAT, (quietly) sees Tomorrow!",
    "nothing known here",
    "New York and new york: an old stone house of the sun",
]


def vectors(rows: int = len(VOCABULARY)) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).standard_normal((rows, D)).astype(np.float32)
    values[0] = 0
    return values


TOKENIZERS: dict[str, Callable[[Any], Any]] = {
    "whitespace": lambda library: library.WhitespaceTokenizer(VOCABULARY),
    "lower case": lambda library: library.WhitespaceTokenizer(VOCABULARY, ["cat", "."], True),
    "phrases": lambda library: library.PhraseTokenizer(VOCABULARY),
    "short phrases": lambda library: library.PhraseTokenizer(VOCABULARY, (), max_ngram_length=2),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_word_tokenizers_give_the_references_ids(kind: str) -> None:
    ours, theirs = TOKENIZERS[kind](models), TOKENIZERS[kind](reference_tokenizer)
    for text in TEXTS:
        assert ours.tokenize(text) == theirs.tokenize(text), text
    assert len({tuple(ours.tokenize(text)) for text in TEXTS}) > 5


def stack(library: Any, tokenizers: Any, behind: str, tokenizer: str = "whitespace") -> list[Any]:
    """A model's modules in either library: word embeddings, something behind them, pooling."""
    made = TOKENIZERS[tokenizer](tokenizers)
    if behind == "BoW":
        return [library.BoW(WORDS, {"cat": 2.5, "dog": 0.5}, 0.7, False)]
    words = library.WordEmbeddings(made, vectors(), update_embeddings=True, max_seq_length=7)
    middle = {
        "nothing": lambda: [],
        "LSTM": lambda: [library.LSTM(D, 5, num_layers=2, bidirectional=True)],
        "LSTM one way": lambda: [library.LSTM(D, 5, bidirectional=False)],
        "CNN": lambda: [library.CNN(D, 4, [1, 3, 5])],
        "WordWeights": lambda: [library.WordWeights(VOCABULARY, {"cat": 3.0, "sun": 0.25}, 0.5)],
    }[behind]()
    size = middle[-1].get_embedding_dimension() if behind.startswith(("LSTM", "CNN")) else D
    return [words, *middle, library.Pooling(size, "mean")]


BEHIND = ("nothing", "LSTM", "LSTM one way", "CNN", "WordWeights", "BoW")


def pair(behind: str, tokenizer: str = "whitespace") -> tuple[SentenceTransformer, Any]:
    ours = SentenceTransformer(modules=stack(models, models, behind, tokenizer), device="cpu")
    theirs = Reference(modules=stack(reference, reference_tokenizer, behind, tokenizer), device="cpu")
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("behind", BEHIND)
def test_embeddings_and_gradients_equal_the_reference(behind: str) -> None:
    ours, theirs = pair(behind)
    assert {name: p.shape for name, p in ours.named_parameters()} == {
        name: p.shape for name, p in theirs.named_parameters()
    }
    expected = theirs.encode(TEXTS)
    np.testing.assert_allclose(ours.encode(TEXTS), expected, atol=2e-6)
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == expected.shape[1]
    if behind == "BoW":
        return
    weights = torch.randn(expected.shape)
    for features in ({"tokens": ours.token_sequences(TEXTS).pack()}, ours.tokenize(TEXTS)):
        ours.zero_grad()
        (ours(features)["sentence_embedding"] * weights).sum().backward()
    theirs.zero_grad()
    (theirs(theirs.preprocess(TEXTS))["sentence_embedding"] * weights).sum().backward()
    others = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient = others[name].grad.clone()
        if name == "0.emb_layer.weight":
            gradient[0] = parameter.grad[0] = 0  # the padding's; here nothing is padded
        torch.testing.assert_close(parameter.grad, gradient, atol=2e-6, rtol=1e-4)


def test_tokenize_gives_the_references_features() -> None:
    ours, theirs = pair("nothing")
    for texts in (TEXTS, [""]):
        found, expected = ours.tokenize(texts), theirs.preprocess(texts)
        assert set(found) <= set(expected)
        for name, value in found.items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("behind", BEHIND)
def test_folders_are_exchanged_with_the_reference_both_ways(behind: str, safe: bool, tmp_path: Path) -> None:
    ours, theirs = pair(behind, "phrases" if behind == "nothing" else "whitespace")
    expected = theirs.encode(TEXTS)
    ours.save(tmp_path / "ours", safe_serialization=safe)
    theirs.save(str(tmp_path / "theirs"), safe_serialization=safe)
    np.testing.assert_allclose(
        Reference(str(tmp_path / "ours"), device="cpu").encode(TEXTS), expected, atol=2e-6
    )
    again = SentenceTransformer(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-6)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in ours.parameters()]


def test_the_neighbours_of_a_text_do_not_change_its_convolution() -> None:
    torch.manual_seed(0)
    cnn = SentenceTransformer(modules=stack(models, models, "CNN"), device="cpu")
    cnn[0].emb_layer.weight.data[0] = 5.0  # what the reference would convolve in place of padding
    together, alone = cnn.encode(TEXTS), np.stack([cnn.encode(text) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_older_names_of_arguments_are_taken_from_folders(tmp_path: Path) -> None:
    for module, settings in (
        (models.LSTM(D, 4), {"word_embedding_dimension": D, "hidden_dim": 4}),
        (models.CNN(D, 4), {"in_word_embedding_dimension": D, "out_channels": 4}),
        (models.WeightedLayerPooling(D, 3, 1), {"word_embedding_dimension": D, "num_hidden_layers": 3}),
    ):
        module.save(tmp_path)
        saved = json.loads((tmp_path / module.config_file_name).read_text())
        assert settings.items() <= saved.items()
        newer = {name.replace("word_", ""): value for name, value in saved.items()}
        (tmp_path / module.config_file_name).write_text(json.dumps(newer))
        again = type(module).load(tmp_path)
        for name, value in module.state_dict().items():
            assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_vectors_are_read_from_a_text_file(tmp_path: Path, zipped: bool) -> None:
    lines = [
        f"{word} {' '.join(str(x) for x in vector)}" for word, vector in zip(WORDS, vectors(), strict=False)
    ]
    text = "\n".join([f"{len(lines)} {D}", *lines]) + "\n"  # with the header of word2vec
    path = tmp_path / ("vectors.txt.gz" if zipped else "vectors.txt")
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    for limit in (None, 10):
        ours = models.WordEmbeddings.from_text_file(path, max_vocab_size=limit)
        theirs = reference.WordEmbeddings.from_text_file(str(path), max_vocab_size=limit)
        assert list(ours.tokenizer.get_vocab()) == list(theirs.tokenizer.get_vocab())
        torch.testing.assert_close(ours.emb_layer.weight, theirs.emb_layer.weight)
        assert not ours.emb_layer.weight.requires_grad


def test_a_line_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("cat 1 2 3\ndog 1 2\n")
    with pytest.raises(
        ValueError, match=r"Line 2 of .*vectors\.txt has 2 numbers behind the word 'dog', the first has 3"
    ):
        models.WordEmbeddings.from_text_file(path)
    path.write_text("cat 1 2 x\n")
    with pytest.raises(ValueError, match=r"Line 1 .*'cat'.* is not a word and numbers"):
        models.WordEmbeddings.from_text_file(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no vectors"):
        models.WordEmbeddings.from_text_file(path)


def test_a_transformers_tokenizer_serves_as_well(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    values = np.random.default_rng(0).standard_normal((len(tokenizer), D)).astype(np.float32)
    ours = SentenceTransformer(
        modules=[models.WordEmbeddings(tokenizer, values), models.Pooling(D)], device="cpu"
    )
    theirs = Reference(
        modules=[reference.WordEmbeddings(tokenizer, values), reference.Pooling(D)], device="cpu"
    )
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)
    ours.save(tmp_path)
    again = SentenceTransformer(tmp_path, device="cpu")
    assert isinstance(again[0].tokenizer, TransformersTokenizerWrapper)
    np.testing.assert_allclose(again.encode(TEXTS), ours.encode(TEXTS), atol=2e-6)


def test_a_tokenizer_from_elsewhere_is_not_imported_untrusted(tmp_path: Path) -> None:
    models.WordEmbeddings(models.WhitespaceTokenizer(VOCABULARY), vectors()).save(tmp_path)
    config = json.loads((tmp_path / "wordembedding_config.json").read_text())
    (tmp_path / "wordembedding_config.json").write_text(json.dumps(config | {"tokenizer_class": "os.getcwd"}))
    with pytest.raises(ValueError, match=r"os\.getcwd.*trust_remote_code=True"):
        models.WordEmbeddings.load(tmp_path)


@pytest.mark.parametrize("layer_start", [0, 1, 2])
def test_weighted_layer_pooling_equals_the_reference(layer_start: int) -> None:
    ours = models.WeightedLayerPooling(D, 2, layer_start)
    theirs = reference.WeightedLayerPooling(D, 2, layer_start)
    for module in (ours, theirs):
        module.layer_weights.data = torch.arange(1.0, 4 - layer_start)
    layers = tuple(torch.randn(3, 5, D) for _ in range(3))
    found = ours({"all_layer_embeddings": layers})["token_embeddings"]
    torch.testing.assert_close(found, theirs({"all_layer_embeddings": layers})["token_embeddings"])
    packed = ours({"all_layer_embeddings": tuple(layer.flatten(0, 1) for layer in layers)})[
        "token_embeddings"
    ]
    torch.testing.assert_close(packed, found.flatten(0, 1))


def test_weighted_layers_of_a_transformer_are_exchanged_both_ways(tmp_path: Path) -> None:
    from small import small_model_folder

    folder = small_model_folder(tmp_path / "plain")
    transformer = models.Transformer(folder, config_args={"output_hidden_states": True})
    layers = models.WeightedLayerPooling(32, 2, 1, torch.tensor([1.0, 4.0]))
    ours = SentenceTransformer(modules=[transformer, layers, models.Pooling(32)], device="cpu")
    without = SentenceTransformer(modules=[models.Transformer(folder), models.Pooling(32)], device="cpu")
    expected = ours.encode(TEXTS)
    assert np.abs(expected - without.encode(TEXTS)).max() > 1e-3
    ours.save(tmp_path / "ours")
    again = SentenceTransformer(tmp_path / "ours", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-6)
    theirs = Reference(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), expected, atol=2e-6)
    theirs.save(str(tmp_path / "theirs"))
    again = SentenceTransformer(tmp_path / "theirs", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("behind", ["nothing", "LSTM", "CNN", "WordWeights"])
def test_each_trains(behind: str) -> None:
    from likewise import losses

    torch.manual_seed(0)
    model = SentenceTransformer(modules=stack(models, models, behind), device="cpu")
    loss = losses.MultipleNegativesRankingLoss(model)
    texts = list(dict.fromkeys(text for text in sentences(40, longest=5) if model.encode(text).any()))[:16]
    columns = [model.tokenize(texts), model.tokenize([" ".join(text.split()[::-1]) for text in texts])]
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    values = []
    for _ in range(12):
        optimiser.zero_grad()
        value = loss([dict(column) for column in columns])
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0] or values[-1] < 0.1


def trained_modules(kind: str, folder: Path) -> list[Any]:
    """Modules whose own weights only training changes: a layer behind a bag of words, or weights of layers."""
    from small import small_model_folder

    if kind == "BoW":
        return [models.BoW(WORDS), models.Dense(len(WORDS), 6), models.LayerNorm(6)]
    path = small_model_folder(folder / "plain")
    transformer = models.Transformer(path, config_args={"output_hidden_states": True})
    return [transformer, models.WeightedLayerPooling(32, 2, 0), models.Pooling(32)]


@pytest.mark.parametrize("kind", ["BoW", "WeightedLayerPooling"])
def test_weights_are_trained_by_the_trainer_saved_and_come_back(kind: str, tmp_path: Path) -> None:
    from datasets import Dataset

    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    model = SentenceTransformer(modules=trained_modules(kind, tmp_path), device="cpu")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    args = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=4, learning_rate=0.05, per_device_train_batch_size=4,
        report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    rows = Dataset.from_dict({"anchor": sentences(16, seed=1), "positive": sentences(16, seed=2)})
    loss = losses.MultipleNegativesRankingLoss(model)
    SentenceTransformerTrainer(model, args, rows, loss=loss).train()
    own = [name for name in before if not name.startswith("0.")]
    assert own
    for name, weight in model.named_parameters():
        assert name not in own or not torch.equal(weight, before[name]), name
    expected = model.encode(TEXTS)
    model.save(tmp_path / "saved")
    again = SentenceTransformer(tmp_path / "saved", device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=1e-6)
    theirs = Reference(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), expected, atol=3e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.LSTM(D), "`hidden_dim` must be a whole number of at least 1"),
        (lambda: models.LSTM(D, 3, "1"), "`num_layers` must be a whole number of at least 1, but is '1'"),
        (lambda: models.CNN(D, "4"), "`out_channels` must be a whole number of at least 1, but is '4'"),
        (
            lambda: models.WeightedLayerPooling(D, "2"),
            "`num_hidden_layers` must be a whole number of at least 1",
        ),
        (lambda: models.LayerNorm("8"), "`dimension` must be a whole number of at least 1, but is '8'"),
        (lambda: models.LSTM(hidden_dim=3), "`word_embedding_dimension`"),
        (lambda: models.CNN(), "`in_word_embedding_dimension`"),
        (lambda: models.CNN(D, 4, [2]), "`kernel_sizes` must be odd"),
        (lambda: models.CNN(D, 4, [3], [2]), "`stride_sizes` must be 1"),
        (lambda: models.WeightedLayerPooling(D, 2, 5), "`layer_start` must lie between 0"),
        (lambda: models.WeightedLayerPooling(D)({}), "takes 12 layers, but got none.*output_hidden_states"),
        (lambda: models.WordEmbeddings("x", vectors()), "must be a WordTokenizer"),
        (
            lambda: models.WordEmbeddings(models.WhitespaceTokenizer(VOCABULARY), vectors(3)),
            "3 vectors for 65 words",
        ),
    ],
)
def test_wrong_arguments_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
