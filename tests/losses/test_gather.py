"""Two processes with half of the rows each have the loss and the gradients of one process with all of them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from losses_common import FixedModel
from torch import Tensor

from likewise import losses
from likewise.losses import gather, info_nce
from likewise.similarity import euclidean_sim

ROWS, SIZE = 10, 6
ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def gist(**arguments: Any) -> Any:
    loss = losses.GISTEmbedLoss.__new__(losses.GISTEmbedLoss)
    torch.nn.Module.__init__(loss)
    defaults = {
        "temperature": 0.1, "margin_strategy": "absolute", "margin": 0.1, "contrast_anchors": True, "contrast_positives": True,
    }  # fmt: skip
    for name, value in (defaults | arguments).items():
        setattr(loss, name, value)
    return loss


MNRL = losses.MultipleNegativesRankingLoss
CASES: dict[str, tuple[Callable[[bool], Any], int, str | None]] = {
    "plain": (lambda g: MNRL(FixedModel(), gather_across_devices=g), 2, None),
    "hard negatives, all directions, hardness": (
        lambda g: MNRL(
            FixedModel(), 5.0, gather_across_devices=g, directions=ALL, hardness_mode="all_negatives", hardness_strength=2.0
        ), 4, None,
    ),
    "both ways apart": (lambda g: losses.MultipleNegativesSymmetricRankingLoss(FixedModel(), gather_across_devices=g), 3, None),
    "hard negatives only": (
        lambda g: MNRL(FixedModel(), gather_across_devices=g, hardness_mode="hard_negatives", hardness_strength=2.0), 3, None,
    ),
    "duplicates": (lambda g: MNRL(FixedModel(), 5.0, gather_across_devices=g, directions=ALL, mask_duplicates=True), 3, "ids"),
    "another similarity": (
        lambda g: MNRL(FixedModel(), 2.0, similarity_fct=euclidean_sim, gather_across_devices=g), 3, None,
    ),
    "Matryoshka": (lambda g: losses.MatryoshkaLoss(FixedModel(SIZE), MNRL(FixedModel(), gather_across_devices=g), [6, 3]), 3, None),
    "GIST": (lambda g: gist(gather_across_devices=g), 2, "guides"),
    "GIST with negatives": (lambda g: gist(gather_across_devices=g, margin_strategy="relative"), 4, "guides"),
    "mega batch": (lambda g: losses.MegaBatchMarginLoss(FixedModel(), 2.0, -1.0, False, gather_across_devices=g), 2, None),
    "contrastive tension": (
        lambda g: losses.ContrastiveTensionLossInBatchNegatives(FixedModel(), gather_across_devices=g), 2, None,
    ),
    "batch all": (lambda g: losses.BatchAllTripletLoss(FixedModel(), gather_across_devices=g), 1, "labels"),
    "batch hard": (lambda g: losses.BatchHardTripletLoss(FixedModel(), gather_across_devices=g), 1, "labels"),
    "batch soft": (lambda g: losses.BatchHardSoftMarginTripletLoss(FixedModel(), gather_across_devices=g), 1, "labels"),
    "batch semi-hard": (lambda g: losses.BatchSemiHardTripletLoss(FixedModel(), gather_across_devices=g), 1, "labels"),
}  # fmt: skip


def inputs(name: str, rows: slice) -> tuple[list[Tensor], Tensor | None, dict[str, Any]]:
    """Embeddings of these rows, made from a weight as a model would, and what else the loss takes."""
    _, columns, more = CASES[name]
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(columns, ROWS, SIZE, generator=generator)[:, rows]
    guides = torch.randn(columns, ROWS, 4, generator=generator)[:, rows]
    ids = torch.randint(0, 12, (columns, ROWS), generator=generator)[:, rows]
    context = {"guides": {"guides": list(guides)}, "ids": {"ids": ids}}.get(more or "", {})
    return list(data), (torch.arange(ROWS) % 3)[rows] if more == "labels" else None, context


def value_and_gradient(name: str, rows: slice, gathered: bool) -> tuple[Tensor, Tensor]:
    weight = (
        torch.eye(SIZE)
        .add(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(9)) * 0.3)
        .requires_grad_()
    )
    data, labels, context = inputs(name, rows)
    loss = CASES[name][0](gathered)
    value = loss.compute([column @ weight for column in data], labels, **context)
    (gradient,) = torch.autograd.grad(value, [weight])
    return value.detach(), gradient


def worker(rank: int, port: int, split: int, folder: str) -> None:
    torch.set_num_threads(1)
    info_nce.CPU_TILE_ENTRIES = 64  # several tiles
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = {}
    rows = slice(0, split) if rank == 0 else slice(split, ROWS)
    for name in CASES:
        value, gradient = value_and_gradient(name, rows, gathered=True)
        # Data parallelism takes the mean of the gradients; so here for the values.
        for tensor in (value, gradient):
            dist.all_reduce(tensor)
            tensor /= 2
        results[name] = (value, gradient)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[5, 7], ids=["equal halves", "unequal parts"])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Tensor, Tensor]]:
    folder = str(tmp_path_factory.mktemp("gather"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, args=(port, request.param, folder), nprocs=2)
    found: dict[str, tuple[Tensor, Tensor]] = torch.load(f"{folder}/results.pt")
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_loss_and_gradients_of_one_with_the_joined_batch(
    name: str, results: dict[str, tuple[Tensor, Tensor]]
) -> None:
    value, gradient = results[name]
    expected, expected_gradient = value_and_gradient(name, slice(None), gathered=False)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_gathering_without_other_processes_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    gather._report_single.cache_clear()
    with caplog.at_level(logging.WARNING, "likewise"):
        for _ in range(2):
            value_and_gradient("plain", slice(None), gathered=True)
    assert [record.message for record in caplog.records] == [
        "`gather_across_devices` is without effect: there is only this process."
    ]
