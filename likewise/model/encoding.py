"""What `encode` takes and gives: lists of texts in, arrays, tensors or lists in some precision out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from contextlib import AbstractContextManager, ExitStack, contextmanager
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from likewise.checked import one_of, positive
from likewise.engine.modes import leave_training
from likewise.model.inference import RUNS, WINDOW, Request, token_budget
from likewise.model.pool import WorkerPool
from likewise.modules import Router
from likewise.modules.base import is_own
from likewise.modules.images import is_picture
from likewise.modules.router import without_task
from likewise.modules.text import check_texts

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
# By task, the prompts it may have; the first that the model has is used.
TASK_PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}


def check_arguments(precision: str, output_value: str | None, to_file: bool) -> None:
    """Refuse what `encode` cannot do."""
    one_of(precision, "precision", PRECISIONS)
    one_of(output_value, "output_value", RUNS)
    if output_value != "sentence_embedding" and precision != "float32":
        raise ValueError(
            f"`precision={precision!r}` is for sentence embeddings, but `output_value` is {output_value!r}. Drop one of them, "
            "or quantise what you get: `quantize_embeddings(embeddings, precision=...)`."
        )
    if to_file and output_value != "sentence_embedding":
        raise ValueError("`out` is for sentence embeddings only. Drop `out` or `output_value`.")
    if to_file and precision in ("int8", "uint8"):
        raise ValueError(
            f"`precision={precision!r}` takes its ranges from all embeddings, which `out` never holds together. Write "
            "float16, and use `quantize_embeddings` with ranges on it."
        )


class Cells(Sequence[Any]):
    """A column of a data set, which stays where it is and is read some thousand cells at a time: that takes as long as a few."""

    def __init__(self, column: Sequence[Any]) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, rows: Any) -> Any:
        return self._column[rows]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), WINDOW):
            yield from self._column[start : start + WINDOW]


def as_list(inputs: Any) -> tuple[Sequence[Any], bool]:
    """The inputs as something to index and cut, and whether there was just one text or image.

    Lists, tuples, arrays and columns of a data set are taken as the reference takes them; beside them whatever else has its
    items in one order: iterators, a dict's keys and values, pandas' Series, pyarrow's arrays.

    Raises:
        TypeError: It is something else, which would be read as texts that nobody meant: a set in any order, a frame as the
            names of its columns, bytes as numbers.
    """
    if isinstance(inputs, str) or is_picture(inputs):
        return [inputs], True
    if isinstance(inputs, list):
        return inputs, False
    if type(inputs).__module__ == "datasets.arrow_dataset" and isinstance(inputs, Sequence):
        return Cells(inputs), False
    if isinstance(inputs, Mapping) and len(inputs) == 1:  # one text with its task or its kind
        return [inputs], True
    shown = type(inputs).__name__
    if inputs is None or isinstance(inputs, Mapping | bytes | bytearray | memoryview):
        fix = "Pass its texts as a list."
    elif isinstance(inputs, Set) and not isinstance(inputs, KeysView):
        fix = "A set has no order to return embeddings in. Pass `sorted(...)` or a list."
    elif isinstance(inputs, np.ndarray) and (inputs.dtype.kind not in "UO" or not inputs.ndim):
        shown = f"an array of {inputs.dtype}" + ("" if inputs.ndim else " without an axis")
        fix = "Pass a list or array of texts."
    elif isinstance(inputs, np.ndarray) or hasattr(inputs, "to_pylist"):  # of numpy; of pyarrow
        return (inputs.tolist() if isinstance(inputs, np.ndarray) else inputs.to_pylist()), False
    elif (
        isinstance(inputs, Sequence | Iterator | KeysView | ValuesView) or getattr(inputs, "ndim", None) == 1
    ):
        return list(inputs), False
    else:
        fix = "Pass one column of it as a list."
    raise TypeError(f"encode() needs a text or a list of texts, but got {shown}: {inputs!r:.60}. {fix}")


def inputs_of(model: Any, inputs: Any, kwargs: dict[str, Any]) -> tuple[Sequence[Any], bool]:
    """The inputs of `encode` as a checked list, and whether there was just one; a task that they name goes to `kwargs`.

    Raises:
        TypeError: Something is not a text.
    """
    texts: Sequence[Any]
    if not is_own(model, "is_singular_input") and model.is_singular_input(inputs):
        texts, single = [inputs], True
    else:
        texts, single = as_list(inputs)
    if any(isinstance(module, Router) for module in model):
        texts, kwargs["task"] = without_task(texts, kwargs.get("task"))
    if model.takes_tokens:  # others may take anything
        check_texts(texts)
    return texts, single


def is_in_processes(device: Any, pool: WorkerPool | None) -> bool:
    """Whether other processes compute: those of a pool, or of a list of devices."""
    return pool is not None or isinstance(device, list | tuple)


def check_asked(prompt: Any, prompt_name: Any, pool: Any) -> None:
    """Refuse, by a TypeError, a prompt or a prompt's name that is no text, and a pool that is none."""
    for name, value in (("prompt", prompt), ("prompt_name", prompt_name)):
        if not isinstance(value, str | None):
            raise TypeError(f"`{name}` must be one text for all inputs, but is {value!r:.60}.")
    if not isinstance(pool, WorkerPool | None):
        raise TypeError(f"`pool` must be what `start_multi_process_pool()` returns, but is {pool!r:.60}.")


def request_for(
    model: Any,
    prompt: str | None,
    prompt_name: str | None,
    batch_size: int,
    device: Any,
    pool: WorkerPool | None,
    forward_kwargs: Mapping[str, Any],
    **options: Any,
) -> Request:
    """What `encode` or `predict` was asked for, resolved; the model is moved to the device, where it computes itself.

    Arguments are those of `encode`; among `forward_kwargs` may be `processing_kwargs`, and `options` are further attributes of
    the Request.
    """
    check_asked(prompt, prompt_name, pool)
    if device is not None and not is_in_processes(device, pool):
        model.to(device)
    kwargs, device = dict(forward_kwargs), model.device
    processing_kwargs = kwargs.pop("processing_kwargs", None)
    return Request(
        prompt=model._resolve_prompt(prompt, prompt_name),
        token_budget=token_budget(positive(batch_size, "batch_size"), model[0], device),
        device=device,
        forward_kwargs=kwargs,
        reading={} if processing_kwargs is None else {"processing_kwargs": processing_kwargs},
        **options,
    )


@contextmanager
def running(
    model: Any, pool: WorkerPool | None, device: Any, progress: AbstractContextManager[Any]
) -> Iterator[tuple[Any, WorkerPool | None]]:
    """A progress bar's `update`, and the processes that compute; a list of devices starts some. The model is in eval mode."""
    # For good, as in the reference: other threads may be at it when this call ends, and must not find dropout back on.
    leave_training(model)
    with ExitStack() as stack:
        update = stack.enter_context(progress)
        if pool is None and is_in_processes(device, pool):
            pool = stack.enter_context(WorkerPool(model, [str(name) for name in device]))
        yield update, pool


@contextmanager
def progress_of(
    total: int, wanted: bool | None, logger: logging.Logger, what: str = "Encoding", unit: str = "texts"
) -> Iterator[Any]:
    """A progress bar's `update`; it does nothing where no bar is wanted.

    With None for `wanted`, one is where the `logger` of the model's file is at INFO or below.
    """
    if wanted is None:
        wanted = logger.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
    if not wanted:
        yield lambda done: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=what, unit=f" {unit}") as bar:
        yield bar.update


def converted(embeddings: Tensor, precision: str, to_numpy: bool, to_tensor: bool) -> Any:
    """The embeddings in the precision and container asked for."""
    found: Any = embeddings
    if precision == "float16":
        found = embeddings.to(torch.float16)
    elif precision != "float32":
        from likewise.precision import quantize_embeddings

        found = quantize_embeddings(embeddings, precision=precision)  # type: ignore[call-overload]
    if to_tensor:
        return torch.as_tensor(found)
    if to_numpy:
        if isinstance(found, Tensor):
            found = (found.float() if found.dtype == torch.bfloat16 else found).cpu().numpy()
        return found
    return list(torch.as_tensor(found))


def encode_for(encode: Callable[..., Any], model: Any, task: str, /, *args: Any, **kwargs: Any) -> Any:
    """Embed for a task, with the first of its prompts that the model has unless another is asked for.

    The family's own `encode` gives positional arguments their names; called is the model's, which may be somebody's own.
    """
    if "task" in kwargs:
        raise TypeError(
            f"`encode_{task}` embeds for the task {task!r}: drop `task`, or call `encode(task=...)`."
        )
    given = signature(encode).bind(model, *args, **kwargs).arguments
    del given["self"]
    given = {"task": task, **given.pop("kwargs", {}), **given}
    given["prompt_name"] = task_prompt_name(model, task, given.get("prompt_name"), given.get("prompt"))
    return model.encode(**given)


def task_prompt_name(model: Any, task: str | None, prompt_name: str | None, prompt: str | None) -> str | None:
    """The name of the prompt for a task, where neither a name nor a prompt is given; None for the model's default."""
    if prompt_name is not None or prompt is not None:
        return prompt_name
    return next((name for name in TASK_PROMPT_NAMES.get(task or "", ()) if name in model.prompts), None)


def way_of_embedding(
    model: Any, task: str | None = None, prompt_name: str | None = None, prompt: str | None = None
) -> tuple[str, str | None]:
    """What decides how a text is embedded: the prompt in front of it, and the task, if a module asks for one.

    The arguments are those of `encode`; the task is "query" for `encode_query`, "document" for `encode_document`.
    """
    prompt = model._resolve_prompt(prompt, task_prompt_name(model, task, prompt_name, prompt))
    return prompt or "", task if "task" in model.get_model_kwargs() else None
