"""Token pooling and query expansion by themselves, beside the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers.multi_vector_encoder import modules as theirs
from small import small_tokenizer

from likewise.modules.query_expansion import ByTask, QueryExpansion
from likewise.multi_vector_encoder.modules.multi_vector_mask import MultiVectorMask
from likewise.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling, LambdaTokenPooling
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

TEXTS = [torch.randn(n, 8, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 9, 14)]


@pytest.mark.parametrize("factor", [1, 2, 2.5, 100])
@pytest.mark.parametrize("protected", [0, 1, 3])
@pytest.mark.parametrize("unit", [True, False])
def test_clusters_are_those_of_the_reference(factor: float, protected: int, unit: bool) -> None:
    settings: dict[str, Any] = {"num_protected_tokens": protected, "normalize_embeddings": unit}
    own, reference = (
        HierarchicalTokenPooling(factor, **settings),
        theirs.HierarchicalTokenPooling(factor, **settings),
    )
    for ours, other in zip(own.pool(TEXTS), reference.pool(TEXTS), strict=True):
        torch.testing.assert_close(ours, other)
    for side in ("right", "left"):
        padded = torch.zeros(4, 14, 8)
        for row, text in zip(padded, TEXTS, strict=True):
            row[slice(0, len(text)) if side == "right" else slice(14 - len(text), 14)] = text
        mask = padded.ne(0).any(-1)
        for given in (None, mask):
            arguments: dict[str, Any] = {"attention_mask": given, "padding_side": side}
            torch.testing.assert_close(own.pool(padded, **arguments), reference.pool(padded, **arguments))


def test_gradients_go_through_the_means() -> None:
    text = TEXTS[2].clone().requires_grad_()
    (HierarchicalTokenPooling(2).pool_one(text) * torch.arange(8)).sum().backward()
    other = TEXTS[2].clone().requires_grad_()
    (theirs.HierarchicalTokenPooling(2).pool_one(other) * torch.arange(8)).sum().backward()
    torch.testing.assert_close(text.grad, other.grad)


def test_texts_of_other_tasks_stay_as_they_are() -> None:
    pooling = LambdaTokenPooling(lambda text: text[:1], tasks="query")
    assert [len(text) for text in pooling.pool(TEXTS, task="query")] == [1, 1, 1, 1]
    assert pooling.pool(TEXTS) is TEXTS
    assert pooling.pool([], task="query") == []
    assert pooling.pool(torch.zeros(0, 3, 8), task="query").shape == (0, 0, 8)


def test_what_cannot_be_pooled_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`pool_factor` must be at least 1, but is 0\.5"):
        HierarchicalTokenPooling(0.5)
    with pytest.raises(ValueError, match="`num_protected_tokens` must be at least 0, but is -1"):
        HierarchicalTokenPooling(num_protected_tokens=-1)
    pooling = HierarchicalTokenPooling(2)
    with pytest.raises(ValueError, match=r"\(texts, tokens, size\) or a list, but are \(1, 8\)"):
        pooling.pool(TEXTS[0])
    with pytest.raises(ValueError, match="must be a tensor"):
        pooling.pool([torch.zeros(3)])
    with pytest.raises(ValueError, match="`padding_side` must be 'left' or 'right', but is 'top'"):
        pooling.pool(TEXTS, padding_side="top")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "long", "length": 3}, "`strategy='long'`"),
        ({"strategy": "fixed"}, "`length=None`"),
        ({"strategy": "fixed", "length": 0}, "`length=0`"),
        ({"strategy": "fixed", "length": True}, "`length=True`"),
        ({"strategy": "fixed", "length": 3, "attend": 1}, "`attend=1`"),
        ({"strategy": "fixed", "length": 3, "size": 1}, "`size=1`"),
    ],
)
def test_an_expansion_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QueryExpansion.of(given)


def test_a_token_that_there_is_not_is_refused() -> None:
    tokenizer = small_tokenizer()
    assert QueryExpansion("min", token="cat").token_id(tokenizer) == tokenizer.convert_tokens_to_ids("cat")
    assert QueryExpansion("min", token="[UNK]").token_id(tokenizer) == tokenizer.unk_token_id
    with pytest.raises(ValueError, match="'giraffe', but the tokenizer has no such token"):
        QueryExpansion("min", token="giraffe").token_id(tokenizer)


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="`query_length=8` is less than the 32 tokens"):
        ByTask(query_length=8, expansion=QueryExpansion("fixed"))
    with pytest.raises(
        ValueError, match="`document_length` must be a whole number of at least 1 or None, but is 0"
    ):
        ByTask(document_length=0)


def test_words_that_are_no_single_token_are_named(caplog: pytest.LogCaptureFixture) -> None:
    mask = MultiVectorMask(["cat", "giraffe", "[UNK]"], skiplist_tasks="query", keep_only_token_ids=[4])
    mask.resolve_with_tokenizer(small_tokenizer())
    assert "'giraffe', of which the tokenizer makes no single token each" in caplog.text
    ids = torch.tensor([[1, 4, small_tokenizer().convert_tokens_to_ids("cat")]])
    features = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_embeddings": torch.zeros(1, 3, 2),
    }
    assert mask(dict(features), task="query")["attention_mask"].tolist() == [[False, True, False]]
    assert mask(dict(features), task="document")["attention_mask"].tolist() == [[False, True, False]]
    assert "scoring_mask" not in mask({"token_embeddings": torch.zeros(1, 3, 2)})


def test_texts_in_any_order_keep_their_tokens() -> None:
    texts = TokenEmbeddings.from_list(TEXTS)
    chosen = texts.select(torch.tensor([3, 0, 3]))
    assert chosen.lengths.tolist() == [14, 1, 14]
    torch.testing.assert_close(list(chosen)[2], TEXTS[3])
    torch.testing.assert_close(TokenEmbeddings.join(texts.split(3)).vectors, texts.vectors)
    torch.testing.assert_close(TokenEmbeddings.from_padded(*texts.padded()).vectors, texts.vectors)
    batch, vectors = TokenEmbeddings.from_list(TEXTS[::-1]).as_batch()
    again = TokenEmbeddings.of({"tokens": batch, "token_embeddings": vectors})
    torch.testing.assert_close(again.vectors, TokenEmbeddings.from_list(TEXTS[::-1]).vectors)
