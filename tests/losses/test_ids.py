"""Documents that are known to be no negatives are left out, by ids of equal values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_common import FixedModel, batch_of, texts

from likewise.engine.embed import Embed
from likewise.losses import (
    ContrastiveTensionLossInBatchNegatives,
    GISTEmbedLoss,
    MegaBatchMarginLoss,
    MultipleNegativesRankingLoss,
)
from likewise.losses.ids import column_ids, sequence_ids

ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def test_equal_texts_have_equal_ids_in_every_column_and_others_do_not(model: Any) -> None:
    columns = [["a cat", "a dog", "the cat"], ["a dog", "dog a", "cat"]]
    ids = column_ids(batch_of(model, columns))
    same = ids.flatten()[:, None] == ids.flatten()[None, :]
    flat = [text for column in columns for text in column]
    assert same.tolist() == [[first == second for second in flat] for first in flat]


def test_ids_of_many_texts_are_all_different_and_do_not_depend_on_the_batch(model: Any) -> None:
    many = sorted(set(texts(4000, 1, seed=5)[0]))
    ids = sequence_ids(batch_of(model, [many]).tokens)
    assert len(set(ids.tolist())) == len(many)
    assert torch.equal(sequence_ids(batch_of(model, [many[:7]]).tokens), ids[:7])
    assert ids.abs().float().log2().mean() > 60  # all 64 bits are in use


def test_ids_of_id_columns_come_after_those_of_the_texts(model: Any) -> None:
    batch = batch_of(model, texts(3, 2))
    given = torch.arange(6).view(2, 3)
    found = column_ids(replace(batch, ids=given))
    assert torch.equal(found[:2], column_ids(batch))
    assert torch.equal(found[2:], given)


def expected_loss(embeddings: list[torch.Tensor], ids: list[list[int]], directions: tuple[str, ...]) -> float:
    """The rule in words, row by row."""
    unit = [torch.nn.functional.normalize(e, dim=-1) for e in embeddings]
    rows, columns = len(embeddings[0]), len(embeddings)

    def related(i: int, j: int) -> bool:
        shared = {ids[0][i], ids[1][i]} & {ids[0][j], ids[1][j]}
        return i != j and (bool(shared) or any(group[i] == group[j] for group in ids[columns:]))

    def known(i: int, column: int, j: int) -> bool:
        return related(i, j) if column == 1 else ids[column][j] in (ids[0][i], ids[1][i])

    losses = []
    for i in range(rows):
        scores = []
        for name in directions:
            left = unit[0][i] if name.startswith("query") else unit[1][i]
            for j in range(rows):
                if name.endswith("query"):
                    if not related(i, j) and (name != "query_to_query" or i != j):
                        scores.append(left @ unit[0][j])
                    continue
                for column in range(1, columns):
                    if not known(i, column, j) and (name != "doc_to_doc" or i != j):
                        scores.append(left @ unit[column][j])
        losses.append(torch.stack(scores).mul(5.0).logsumexp(0) - 5.0 * unit[0][i] @ unit[1][i])
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("directions", [ALL[:1], ALL], ids=["one", "all"])
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_rows_that_share_an_anchor_or_positive_are_no_negatives_of_each_other(
    directions: tuple[Any, ...], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings = [torch.randn(7, 5, generator=generator) for _ in range(4)]
    ids = torch.randint(0, 15, (5, 7), generator=generator)
    ids[4] += 100  # an id column: a group of rows
    ids[2:4] += torch.randint(0, 2, (2, 7), generator=generator) * 1000
    loss = MultipleNegativesRankingLoss(FixedModel(), 5.0, directions=directions, mask_duplicates=True)  # type: ignore[arg-type]
    found = loss.compute(embeddings, ids=ids)
    assert found.item() == pytest.approx(expected_loss(embeddings, ids.tolist(), directions), rel=1e-5)


def test_without_the_option_repeated_texts_count_and_with_it_they_do_not(model: Any) -> None:
    # Two rows of one question with two answers each: to each other they are positives.
    batch = batch_of(model, [["a cat", "a cat", "a dog"], ["red", "blue", "green"]])
    same = torch.ones(3, 4)
    plain = MultipleNegativesRankingLoss(model)
    assert plain.compute([same, same]).item() == pytest.approx(math.log(3))
    masked = MultipleNegativesRankingLoss(model, mask_duplicates=True)
    found = masked.compute([same, same], **masked.context(batch, Embed()))
    assert found.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3)
    assert masked.get_config_dict()["mask_duplicates"] is True


def test_a_batch_without_repeated_texts_gives_the_loss_without_the_option(model: Any) -> None:
    batch = batch_of(model, [[f"{w} cat" for w in "abcdef"], [f"{w} dog" for w in "abcdef"]])
    expected = MultipleNegativesRankingLoss(model, directions=ALL)(batch)
    found = MultipleNegativesRankingLoss(model, directions=ALL, mask_duplicates=True)(batch)
    assert torch.equal(found, expected)  # type: ignore[arg-type]


def test_the_hardest_negative_is_none_that_belongs_to_the_row() -> None:
    anchors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    positives = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]])
    ids = torch.tensor([[0, 1, 2], [3, 3, 4]])  # the first two rows have one positive
    plain = MegaBatchMarginLoss(FixedModel(), use_mini_batched_version=False)  # type: ignore[arg-type]
    masked = MegaBatchMarginLoss(FixedModel(), use_mini_batched_version=False, mask_duplicates=True)  # type: ignore[arg-type]
    positive_terms = (0.0 + 0.0 + 0.8 - 0.6) / 3
    assert plain.compute([anchors, positives]).item() == pytest.approx(positive_terms + (0.7 + 0.7) / 3)
    found = masked.compute([anchors, positives], ids=ids)
    assert found.item() == pytest.approx(positive_terms + (0.5 + 0.5) / 3)
    together = masked.compute([anchors, positives], ids=torch.zeros(2, 3, dtype=torch.long))
    assert together.item() == pytest.approx(positive_terms)  # nobody has a negative


def test_equal_texts_are_no_negatives_in_contrastive_tension(model: Any) -> None:
    same = torch.ones(3, 4)
    loss = ContrastiveTensionLossInBatchNegatives(model, mask_duplicates=True)
    batch = batch_of(model, [["a cat", "a dog", "a cat"]])
    found = loss.compute([same, same], **loss.context(batch, Embed()))
    assert found.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3)
    assert loss.get_config_dict()["mask_duplicates"] is True


def test_a_guided_loss_masks_duplicates_that_the_guide_would_keep(model: Any) -> None:
    # All embeddings are equal, and so are the guide's: nothing comes nearer than the pair.
    same = torch.ones(3, 4)
    batch = batch_of(model, [["a cat", "a cat", "a dog"], ["red", "blue", "green"], ["red", "old", "new"]])
    arguments: dict[str, Any] = {"temperature": 1.0, "contrast_anchors": False, "contrast_positives": False}
    plain = GISTEmbedLoss(model, model, **arguments)
    assert plain.compute([same] * 3, guides=[same] * 3).item() == pytest.approx(math.log(6))
    masked = GISTEmbedLoss(model, model, **arguments, mask_duplicates=True)
    ids = masked.context(batch, Embed())["ids"]
    found = masked.compute([same] * 3, guides=[same] * 3, ids=ids)
    # Row 0 loses the positive of row 1 and the negative that is its own positive; row 1 the positive of row 0.
    assert found.item() == pytest.approx((math.log(4) + math.log(5) + math.log(6)) / 3)
