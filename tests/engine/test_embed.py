"""Embed: columns of a batch, packed or padded, whole or in parts, by routes and layers; a stand-in is model enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from likewise.engine import ColumnBatch, TokenBatch
from likewise.engine.embed import Embed, packed

ROWS = 4


class Counting(nn.Module):
    """Embeds a sequence as its length and its first token's vector; keeps what it was called with."""

    takes_tokens = True

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(50, 3)
        self.calls: list[dict[str, Any]] = []

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(dict(features))
        return {"sentence_embedding": self.embeddings(features)}

    def layer_embeddings(self, features: dict[str, Any]) -> Tensor:
        return torch.stack([0 * self.embeddings(features), self.embeddings(features)], dim=1)

    def embeddings(self, features: dict[str, Any]) -> Tensor:
        if "tokens" not in features:
            return self.vectors(features["input_ids"][:, 0])
        tokens = features["tokens"]
        return tokens.restore(self.vectors(tokens.input_ids[tokens.starts]))


def three_columns(**options: Any) -> tuple[ColumnBatch, Tensor]:
    """A batch, and the (3, B) first tokens of its texts."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (3 * ROWS,), generator=generator)
    ids = torch.randint(1, 50, (3 * ROWS, 5), generator=generator)
    mask = (torch.arange(5) < lengths[:, None]).long()
    return ColumnBatch(TokenBatch.from_padded(ids, mask), 3, **options), ids[:, 0].view(3, ROWS)


@pytest.mark.parametrize("embed", [Embed(), Embed(1), Embed(7), Embed(recompute_rows=2)], ids=str)
@pytest.mark.parametrize("columns", [None, [0], [2, 0]], ids=str)
def test_columns_come_in_the_order_of_their_rows(embed: Embed, columns: list[int] | None) -> None:
    model, (batch, firsts) = Counting(), three_columns()
    for features in (batch, batch[:]):
        found = embed(model, features, columns)  # type: ignore[arg-type]
        for number, column in zip(columns or range(3), found, strict=True):
            assert torch.equal(column, model.vectors(firsts[number]))


def test_all_columns_of_a_packed_batch_go_together_and_padded_ones_one_by_one() -> None:
    model, (batch, _) = Counting(), three_columns()
    Embed()(model, batch)  # type: ignore[arg-type]
    assert len(model.calls) == 1
    Embed()(model, batch[:])  # type: ignore[arg-type]
    assert len(model.calls) == 4


def test_each_column_takes_its_route_whichever_are_asked_for() -> None:
    model, (batch, firsts) = Counting(), three_columns(tasks=("query", "document", "document"))
    Embed()(model, batch)  # type: ignore[arg-type]
    (last,) = Embed(1)(model, batch, [2])  # type: ignore[arg-type]
    assert [call["task"] for call in model.calls[:3]] == ["query", "document", "document"]
    assert {call["task"] for call in model.calls[3:]} == {"document"}
    assert torch.equal(last, model.vectors(firsts[2]))


def test_layers_are_asked_of_the_model() -> None:
    model, (batch, firsts) = Counting(), three_columns()
    for embed in (Embed(layers=True), Embed(3, layers=True)):
        first, *_ = embed(model, batch)  # type: ignore[arg-type]
        assert first.shape == (ROWS, 2, 3)
        assert torch.equal(first[:, -1], model.vectors(firsts[0]))
    assert not model.calls


@pytest.mark.parametrize("name", ["recompute_tokens", "recompute_rows"])
def test_a_size_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number of at least 1, but is 0"):
        Embed(**{name: 0})


def test_a_batch_without_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="no column"):
        packed(Counting(), [])  # type: ignore[arg-type]
