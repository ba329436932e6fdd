"""Communities are the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from given_embeddings import parameters, vectors
from sentence_transformers import util

from likewise.retrieval import community_detection


def clustered(num_rows: int = 400, num_centres: int = 25, spread: float = 0.5) -> torch.Tensor:
    """Rows around centres, more around some than around others."""
    generator = torch.Generator().manual_seed(3)
    centre = (torch.rand(num_rows, generator=generator) ** 2 * num_centres).long()
    return vectors(num_centres, 16, 0)[centre] + spread * vectors(num_rows, 16, 1)


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.6, 0.75, 0.9, 1.1])
@pytest.mark.parametrize("min_community_size", [1, 2, 10, 400, 401])
@pytest.mark.parametrize("batch_size", [33, 1024])
def test_communities_are_the_references(threshold: float, min_community_size: int, batch_size: int) -> None:
    rows = clustered()
    found = community_detection(rows, threshold, min_community_size, batch_size)
    assert found == util.community_detection(rows, threshold, min_community_size, batch_size)


def test_members_are_close_to_their_centre_and_in_one_community_only() -> None:
    rows = clustered()
    groups = community_detection(rows, 0.7, 3)
    assert len(groups) > 5
    members = [row for group in groups for row in group]
    assert len(members) == len(set(members))
    unit = torch.nn.functional.normalize(rows, dim=1)
    for group in groups:
        scores = unit[group[1:]] @ unit[group[0]]
        assert (scores >= 0.7).all()
        assert (scores.diff() <= 0).all()
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)


def test_two_groups_and_an_outsider_by_hand() -> None:
    rows = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-1.0, -1.0]]
    assert community_detection(rows, 0.95, 2) == [[0, 2, 3], [1, 4]]


@pytest.mark.parametrize("kind", [list, torch.Tensor.numpy, torch.Tensor.half, torch.Tensor.bfloat16])
def test_lists_arrays_and_half_precision_are_taken(kind: Any) -> None:
    rows = clustered(spread=0.1).bfloat16().half().float()
    assert community_detection(kind(rows)) == community_detection(rows)


def test_no_embeddings_have_no_communities() -> None:
    assert community_detection(torch.empty(0, 3)) == []
    assert community_detection([]) == []


def test_equal_rows_are_one_community_in_order() -> None:
    assert community_detection(torch.ones(5, 4), min_community_size=3) == [[0, 1, 2, 3, 4]]


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    community_detection(clustered())
    assert capsys.readouterr().err == ""
    community_detection(clustered(), show_progress_bar=True)
    assert "Counting" in capsys.readouterr().err


def test_arguments_have_the_references_names_order_and_defaults() -> None:
    assert parameters(community_detection) == parameters(util.community_detection)


def test_a_row_that_is_not_finite_is_refused_by_its_number() -> None:
    rows = torch.eye(4)
    rows[2, 1] = torch.nan
    with pytest.raises(ValueError, match="Row 2 of `embeddings` holds NaN or infinity"):
        community_detection(rows)


def test_what_it_cannot_compare_is_refused_in_words() -> None:
    with pytest.raises(
        TypeError, match=r"`embeddings` must be dense, but are COO\. Pass `embeddings.to_dense"
    ):
        community_detection(torch.eye(4).to_sparse())
    with pytest.raises(ValueError, match=r"`threshold` must be a number, but is '\.3'. It is a cosine"):
        community_detection(torch.eye(4), threshold=".3")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="`min_community_size` must be a whole number of at least 0, but is '3'"
    ):
        community_detection(torch.eye(4), min_community_size="3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1, but is 0"):
        community_detection(torch.eye(4), batch_size=0)
