"""A trial: three short sequences go through a model both ways, and only if the numbers agree is the faster way taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from likewise.engine.modes import eval_mode
from likewise.engine.token_batch import TokenBatch

LENGTHS = (3, 5, 8)  # unequal, so that tokens of another sequence, positions or padding would show
# One for all models, since several may share their weights: a trial switches the model's attention back and forth. The
# trial of a head asks for that of its encoder.
one_trial = RLock()


def trial_batch(model: Any, num_types: int = 1) -> TokenBatch:
    """Three short sequences of a transformers model's vocabulary; tokens of several types where it knows so many."""
    lengths = torch.tensor(LENGTHS)
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.randint(min(3, vocabulary - 1), vocabulary, (int(lengths.sum()),), generator=generator)
    types = torch.randint(0, 2, ids.shape, generator=generator) if num_types > 1 else None
    return TokenBatch(ids, lengths, torch.arange(len(lengths)), types).to(model.device)


@contextmanager
def plainly(model: Any) -> Iterator[None]:
    """Nothing dropped, no gradients, in the weights' own type."""
    with eval_mode(model), torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        yield


def failure(
    model: Any,
    tokens: TokenBatch,
    packed: Callable[[TokenBatch], Tensor],
    padded: Callable[[TokenBatch], Tensor],
    what: str = "numbers",
) -> str:
    """Why a model cannot run packed, or an empty string: whether both ways give the same `what` for these tokens."""
    try:
        with plainly(model):
            expected = padded(tokens)
            same = agree(packed(tokens), expected)
    except Exception as error:  # whatever an unknown model stumbles over
        return f"{type(model).__name__} cannot run packed ({error})"
    return "" if same else f"{type(model).__name__} gives other {what} when packed"


def agree(found: Tensor, expected: Tensor, exact: bool = True) -> bool:
    """Whether two ways of one computation differ by no more than their rounding; `exact` unless one rounds to fewer bits within."""
    exact = exact and found.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    # What is wrong (a neighbour seen, a position shifted) changes embeddings by far more than half precision or TF32, which
    # keep 8 to 11 bits; relative to the largest value, since small ones are differences of large ones.
    tolerance = 1e-3 if exact else 0.05
    atol = tolerance * float(expected.abs().max())
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=tolerance, atol=atol)
