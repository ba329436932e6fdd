"""Documents that are known to be no negatives are left out, by ids of equal values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from losses_common import FixedModel, batch_of, texts

from likewise.losses import MultipleNegativesRankingLoss
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


def test_ids_that_come_with_the_batch_are_taken(model: Any) -> None:
    batch = batch_of(model, texts(3, 2))
    given = torch.arange(9).view(3, 3)
    assert torch.equal(column_ids(replace(batch, ids=given)), given)


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
@pytest.mark.parametrize("seed", range(6))
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
    found = masked.compute([same, same], **masked.context(batch))
    assert found.item() == pytest.approx((2 * math.log(2) + math.log(3)) / 3)
    assert masked.get_config_dict()["mask_duplicates"] is True


def test_a_batch_without_repeated_texts_gives_the_loss_without_the_option(model: Any) -> None:
    batch = batch_of(model, [[f"{w} cat" for w in "abcdef"], [f"{w} dog" for w in "abcdef"]])
    expected = MultipleNegativesRankingLoss(model, directions=ALL)(batch)
    found = MultipleNegativesRankingLoss(model, directions=ALL, mask_duplicates=True)(batch)
    assert torch.equal(found, expected)  # type: ignore[arg-type]
