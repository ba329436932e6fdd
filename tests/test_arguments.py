"""Every family refuses wrong arguments of `encode` and `predict` in the same words, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cross_encoder.cross_common import reranker_folder
from multi_vector_encoder.multi_common import small_encoder
from small import small_model, small_tokenizer
from sparse_encoder.sparse_common import small_splade

from likewise import CrossEncoder, HybridEncoder, SentenceTransformer, SparseEncoder
from likewise.models import StaticEmbedding
from likewise.sparse_encoder.modules import SparseStaticEmbedding

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """By families, what runs a model over texts."""
    folder: Path = tmp_path_factory.mktemp("models")
    dense, late = small_model(folder / "dense"), small_encoder(folder / "late")
    reranker = CrossEncoder(reranker_folder(folder / "reranker"), device="cpu")
    late[0] = dense[0]

    def predict(texts: Any, **options: Any) -> Any:
        return reranker.predict([("a cat", text) for text in texts], **options)

    return {
        "dense": dense.encode,
        "sparse": small_splade(folder / "sparse").encode,
        "late": late.encode,
        "hybrid": HybridEncoder(dense=dense, late=late).encode,
        "reranker": predict,
        "static": SentenceTransformer(modules=[StaticEmbedding(small_tokenizer(), embedding_dim=4)]).encode,
        "sparse static": SparseEncoder(modules=[SparseStaticEmbedding(small_tokenizer())]).encode,
    }


FAMILIES = ("dense", "sparse", "late", "hybrid", "reranker")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": "8"}, ValueError, "`batch_size` must be a whole number of at least 1, but is '8'"),
        ({"batch_size": 2.5}, ValueError, r"`batch_size` must be a whole number of at least 1, but is 2\.5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a whole number of at least 1, but is 0"),
        ({"prompt": 3}, TypeError, "`prompt` must be one text for all inputs, but is 3"),
        (
            {"prompt_name": ["query"]},
            TypeError,
            r"`prompt_name` must be one text for all inputs, but is \['query'\]",
        ),
        (
            {"pool": {"processes": []}},
            TypeError,
            r"`pool` must be what `start_multi_process_pool\(\)` returns, but is \{'proc",
        ),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_in_words(
    runs: dict[str, Run], family: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        runs[family](["a cat", "two dogs"], **options)


@pytest.mark.parametrize("top_k", ["2", 2.0, True])
def test_the_number_of_ranked_documents_is_a_whole_one(tmp_path: Path, top_k: Any) -> None:
    models = (
        CrossEncoder(reranker_folder(tmp_path / "reranker"), device="cpu"),
        small_encoder(tmp_path / "late"),
    )
    for model in models:
        assert len(model.rank("a cat", ["cats", "dogs"], top_k=0)) == 0
        with pytest.raises(TypeError, match="list of"):
            model.rank("a cat", None)
        assert len(model.rank("a cat", ["cats", "dogs", "rain"], top_k=torch.tensor(2))) == 2
        with pytest.raises(TypeError, match=f"`top_k` must be a whole number, but is {top_k!r}"):
            model.rank("a cat", ["cats", "dogs"], top_k=top_k)


@pytest.mark.parametrize("family", [*FAMILIES, "static", "sparse static"])
def test_half_a_character_is_shown_with_what_to_do(runs: dict[str, Run], family: str) -> None:
    for text in ("a cat and \ud83d", "\ude00 a dog"):
        with pytest.raises(TypeError, match=r"'(a cat and \\ud83d|\\ude00 a dog)' holds '.ud.*surrogatepass"):
            runs[family](["a cat", text])
    mended = "\ud83d\ude00 \ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert mended == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    runs[family]([mended])


def test_half_a_character_of_a_tokenizer_in_python_is_shown_too() -> None:
    class Refusing:
        """A tokenizer that refuses what cannot be written as UTF-8, as sentencepiece does."""

        is_fast = False

        def __call__(self, texts: list[str], **kwargs: Any) -> Any:
            return {"input_ids": [list(text.encode()) for text in texts]}

        def num_special_tokens_to_add(self, pair: bool) -> int:
            return 0

    from likewise.modules.text import Tokenization

    with pytest.raises(TypeError, match=r"'b.ud800' holds"):
        Tokenization(Refusing())([("a", "b\ud800")])


def test_other_errors_of_a_tokenizer_stay_what_they_are() -> None:
    from likewise.modules.text import surrogates_in_words

    with pytest.raises(TypeError, match="something else"), surrogates_in_words(["a", ("b", "c")]):
        raise TypeError("something else")
