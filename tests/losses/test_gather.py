"""Two processes with a part of the rows each have the loss and the gradients of one process with all of them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from losses_common import FixedModel, total
from torch import Tensor

from likewise import losses
from likewise.losses import gather, info_nce
from likewise.similarity import euclidean_sim

ROWS, SIZE = 10, 6
ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


def gist(**arguments: Any) -> Any:
    """A loss whose models are not asked: embeddings and guides are given."""
    loss = losses.GISTEmbedLoss.__new__(losses.GISTEmbedLoss)
    torch.nn.Module.__init__(loss)
    defaults = {
        "temperature": 0.1, "margin_strategy": "absolute", "margin": 0.1, "contrast_anchors": True, "contrast_positives": True, "mask_duplicates": False,
    }  # fmt: skip
    for name, value in (defaults | arguments).items():
        setattr(loss, name, value)
    return loss


MNRL = losses.MultipleNegativesRankingLoss
CASES: dict[str, tuple[Callable[[bool], Any], int, str]] = {
    "plain": (lambda g: MNRL(FixedModel(), gather_across_devices=g), 2, ""),
    "hard negatives, all directions, hardness": (
        lambda g: MNRL(
            FixedModel(), 5.0, gather_across_devices=g, directions=ALL, hardness_mode="all_negatives", hardness_strength=2.0
        ), 4, "",
    ),
    "both ways apart": (lambda g: losses.MultipleNegativesSymmetricRankingLoss(FixedModel(), gather_across_devices=g), 3, ""),
    "hard negatives only": (
        lambda g: MNRL(FixedModel(), gather_across_devices=g, hardness_mode="hard_negatives", hardness_strength=2.0), 3, "",
    ),
    "duplicates": (lambda g: MNRL(FixedModel(), 5.0, gather_across_devices=g, directions=ALL, mask_duplicates=True), 3, "ids"),
    "another similarity": (
        lambda g: MNRL(FixedModel(), 2.0, similarity_fct=euclidean_sim, gather_across_devices=g), 3, "",
    ),
    "Matryoshka": (lambda g: losses.MatryoshkaLoss(FixedModel(SIZE), MNRL(FixedModel(), gather_across_devices=g), [6, 3]), 3, ""),
    "GIST": (lambda g: gist(gather_across_devices=g), 2, "guides"),
    "GIST with negatives": (lambda g: gist(gather_across_devices=g, margin_strategy="relative"), 4, "guides"),
    "mega batch": (lambda g: losses.MegaBatchMarginLoss(FixedModel(), 2.0, -1.0, False, gather_across_devices=g), 2, ""),
    "contrastive tension": (
        lambda g: losses.ContrastiveTensionLossInBatchNegatives(FixedModel(), gather_across_devices=g), 2, "",
    ),
    "GIST, duplicates": (lambda g: gist(gather_across_devices=g, mask_duplicates=True), 4, "guides, ids"),
    "mega batch, duplicates": (
        lambda g: losses.MegaBatchMarginLoss(FixedModel(), 2.0, -1.0, False, gather_across_devices=g, mask_duplicates=True),
        2, "ids",
    ),
    "contrastive tension, duplicates": (
        # It embeds its column twice; the second column's ids stand for an id column.
        lambda g: losses.ContrastiveTensionLossInBatchNegatives(
            FixedModel(), gather_across_devices=g, mask_duplicates=True
        ), 2, "ids",
    ),
    "CoSENT": (lambda g: losses.CoSENTLoss(FixedModel(), gather_across_devices=g), 2, "graded"),
    "AnglE": (lambda g: losses.AnglELoss(FixedModel(), 3.0, gather_across_devices=g), 3, ""),
    "online contrastive": (
        lambda g: losses.OnlineContrastiveLoss(FixedModel(), margin=1.5, gather_across_devices=g), 2, "binary",
    ),
    "orthogonal": (
        lambda g: losses.GlobalOrthogonalRegularizationLoss(FixedModel(), gather_across_devices=g), 2, "",
    ),
    "batch all": (lambda g: losses.BatchAllTripletLoss(FixedModel(), gather_across_devices=g), 1, "classes"),
    "batch hard": (lambda g: losses.BatchHardTripletLoss(FixedModel(), gather_across_devices=g), 1, "classes"),
    "batch soft": (lambda g: losses.BatchHardSoftMarginTripletLoss(FixedModel(), gather_across_devices=g), 1, "classes"),
    "batch semi-hard": (lambda g: losses.BatchSemiHardTripletLoss(FixedModel(), gather_across_devices=g), 1, "classes"),
}  # fmt: skip


Question = tuple[str, int, int]
"""The name of a case, the seed of its data, and how many of its rows the first process has."""
Answer = tuple[Tensor, Tensor]
"""The value, and the gradient of the weight that made the embeddings."""


def inputs(name: str, seed: int, rows: slice) -> tuple[list[Tensor], Tensor | None, dict[str, Any]]:
    """Embeddings of these rows before the weight, and what else the loss takes."""
    _, columns, more = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(columns, ROWS, SIZE, generator=generator)[:, rows]
    guides = torch.randn(columns, ROWS, 4, generator=generator)[:, rows]
    ids = torch.randint(0, 12, (columns + 1, ROWS), generator=generator)[:, rows]
    labels = {
        "classes": torch.randint(0, 3, (ROWS,), generator=generator),
        "graded": torch.rand(ROWS, generator=generator),
        "binary": torch.randint(0, 2, (ROWS,), generator=generator),
    }
    context: dict[str, Any] = {"guides": list(guides)} if "guides" in more else {}
    if "ids" in more:
        context["ids"] = ids
    return list(data), next((labels[kind][rows] for kind in labels if kind in more), None), context


def value_and_gradient(name: str, seed: int, rows: slice, gathered: bool) -> Answer:
    generator = torch.Generator().manual_seed(9)
    weight = torch.eye(SIZE).add(torch.randn(SIZE, SIZE, generator=generator) * 0.3).requires_grad_()
    data, labels, context = inputs(name, seed, rows)
    value = total(CASES[name][0](gathered).compute([column @ weight for column in data], labels, **context))
    (gradient,) = torch.autograd.grad(value, [weight])
    return value.detach(), gradient


def worker(rank: int, port: int, questions: Connection, answers: Connection) -> None:
    """Answer questions until there is none."""
    torch.set_num_threads(1)
    info_nce.CPU_TILE_ENTRIES = 64  # several tiles
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    while (question := questions.recv()) is not None:
        name, seed, split = question
        rows = slice(0, split) if rank == 0 else slice(split, ROWS)
        value, gradient = value_and_gradient(name, seed, rows, gathered=True)
        # Data parallelism takes the mean of the gradients; so here for the values.
        for tensor in (value, gradient):
            dist.all_reduce(tensor)
            tensor /= 2
        answers.send((value.numpy(), gradient.numpy()))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes() -> Iterator[Callable[[Question], Answer]]:
    """Asks both processes, and gives the first one's answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    ours, processes = [], []
    for rank in range(2):
        (questions, asked), (answered, answers) = context.Pipe(duplex=False), context.Pipe(duplex=False)
        processes.append(context.Process(target=worker, args=(rank, port, questions, answers)))
        processes[-1].start()
        ours.append((asked, answered))

    def ask(question: Question) -> Answer:
        for asked, _ in ours:
            asked.send(question)
        value, gradient = [answered.recv() for _, answered in ours][0]  # noqa: RUF015 (both must be read)
        return torch.as_tensor(value), torch.as_tensor(gradient)

    yield ask
    for (asked, _), process in zip(ours, processes, strict=True):
        asked.send(None)
        process.join()


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), split=st.integers(1, ROWS - 1))
def test_two_processes_have_the_loss_and_gradients_of_one_with_the_joined_batch(
    name: str, two_processes: Callable[[Question], Answer], seed: int, split: int
) -> None:
    value, gradient = two_processes((name, seed, split))
    expected, expected_gradient = value_and_gradient(name, seed, slice(None), gathered=False)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_gathering_without_other_processes_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    gather._report_single.cache_clear()
    with caplog.at_level(logging.WARNING, "likewise"):
        for _ in range(2):
            value_and_gradient("plain", 0, slice(None), gathered=True)
    assert [record.message for record in caplog.records] == [
        "`gather_across_devices` is without effect: there is only this process."
    ]
