"""Rankings of several searches become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from likewise.retrieval import reciprocal_rank_fusion, semantic_search, weighted_fusion


def hits(**scores: float) -> list[dict[str, Any]]:
    return [{"corpus_id": document, "score": score} for document, score in scores.items()]


FIRST = [hits(a=9.0, b=5.0, c=1.0), hits(d=1.0)]
SECOND = [hits(c=0.9, d=0.5, a=0.4), []]


def scores(fused: list[dict[str, Any]]) -> dict[str, float]:
    return {hit["corpus_id"]: hit["score"] for hit in fused}


def test_ranks_are_fused_as_worked_out_by_hand() -> None:
    both, one = reciprocal_rank_fusion([FIRST, SECOND], rrf_k=1)
    assert [hit["corpus_id"] for hit in both] == [
        "a",
        "c",
        "b",
        "d",
    ]  # of equal ones the first ranking's first
    assert scores(both) == pytest.approx({"a": 1 / 2 + 1 / 4, "c": 1 / 4 + 1 / 2, "b": 1 / 3, "d": 1 / 3})
    assert one == [{"corpus_id": "d", "score": 1 / 2}]
    weighted = reciprocal_rank_fusion([FIRST, SECOND], top_k=1, weights=[1, 3], rrf_k=1)
    assert weighted[0] == [{"corpus_id": "c", "score": 1 / 4 + 3 / 2}]


def test_scores_are_fused_as_worked_out_by_hand() -> None:
    both, one = weighted_fusion([FIRST, SECOND], weights=[0.5, 2.0])
    assert scores(both) == pytest.approx({"c": 2.0, "a": 0.5, "d": 0.4, "b": 0.25})
    assert [hit["corpus_id"] for hit in both] == ["c", "a", "d", "b"]
    assert one == [{"corpus_id": "d", "score": 0.5}]  # one score alone is the highest


def test_ranks_count_alone_and_scores_up_to_scale_and_offset() -> None:
    rng = np.random.default_rng(0)
    found = [semantic_search(rng.normal(size=(4, 3)), rng.normal(size=(9, 3)), top_k=5) for _ in range(3)]
    moved = [
        [[{**hit, "score": 7 * hit["score"] - 2} for hit in one] for one in found[0]],
        *found[1:],
    ]
    for fuse in (reciprocal_rank_fusion, weighted_fusion):
        before, after = fuse(found, top_k=None), fuse(moved, top_k=None)
        for one, other in zip(before, after, strict=True):
            assert scores(one) == pytest.approx(scores(other))
            assert [hit["score"] for hit in one] == sorted(scores(one).values(), reverse=True)
        assert [one[:2] for one in before] == fuse(found, top_k=2)
    assert reciprocal_rank_fusion(found, weights=[0, 1, 0], top_k=1) == [
        [{"corpus_id": one[0]["corpus_id"], "score": 1 / 61}] for one in found[1]
    ]
    assert reciprocal_rank_fusion([]) == []


@pytest.mark.parametrize("fuse", [reciprocal_rank_fusion, weighted_fusion])
def test_what_does_not_belong_together_is_refused(fuse: Any) -> None:
    with pytest.raises(ValueError, match=r"are of \[2, 1\] queries, with 2 weights"):
        fuse([FIRST, SECOND[:1]])
    with pytest.raises(
        ValueError, match=r"are of \[2, 2\] queries, with 1 weights. Pass rankings of the same"
    ):
        fuse([FIRST, SECOND], weights=[1.0])
    with pytest.raises(TypeError, match=r"a list of hits for each query\. Of one query, pass `\[hits\]`"):
        fuse([FIRST[0], SECOND[0]])
