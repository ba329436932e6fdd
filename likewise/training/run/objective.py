"""Objective: the model and its losses as one module, which is what is wrapped, trained and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from likewise.engine.embed import Embed
from likewise.training.data.family import Family
from likewise.training.data.texts import TEXTS
from likewise.training.run.checkpoints import read_weights, trained_weights, write_weights

LOSS_WEIGHTS_FILE = "loss.safetensors"
OUTPUTS = ("sentence_embedding", "scores")
"""What losses are computed from."""


class Step(NamedTuple):
    """What a batch comes to."""

    loss: Any  # what is minimised
    parts: dict[str, Tensor]  # the loss's named parts, detached; none for a loss of one part
    # what the loss was computed from, detached, (B, D) each; none where it embeds its batch by itself
    embeddings: tuple[Tensor, ...] = ()


class Objective(nn.Module):
    """From a batch to the number that is minimised.

    There is one loss for all data sets, or one for each by name. `embed` says how columns become embeddings, None leaves it to each
    loss; chunks are refused where a loss embeds its batch by itself.
    """

    def __init__(
        self,
        model: Any,
        loss: nn.Module | Mapping[str, nn.Module],
        embed: Embed | None = None,
        family: Family = TEXTS,
    ) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(loss) if isinstance(loss, Mapping) else None
        self.losses = nn.ModuleList(loss.values() if isinstance(loss, Mapping) else [loss])
        self.embed = embed
        self.family = family
        for one in self.losses:
            if embed is not None and not family.runs_for(one):
                raise ValueError(
                    f"{type(one).__name__} embeds its batch by itself, so that `micro_batch_tokens` has no effect on it. Drop "
                    f"`micro_batch_tokens`; or derive the loss from {family.own_loss} in place of `forward`."
                )

    def is_of(self, model: Any, loss: nn.Module | Mapping[str, nn.Module], embed: Embed | None) -> bool:
        """Whether this is that model with these losses, embedded this way."""
        names = tuple(loss) if isinstance(loss, Mapping) else None
        losses = loss.values() if isinstance(loss, Mapping) else [loss]
        is_same = [*map(id, (model, *losses))] == [*map(id, (self.model, *self.losses))]
        return is_same and self.names == names and self.embed == embed

    def loss_of(self, data_set: str) -> nn.Module:
        """The loss of a data set; refused where there are several by name, and none of that one."""
        if self.names is None:
            return self.losses[0]
        if data_set not in self.names:
            told = f"is of the data set {data_set!r}" if data_set else "has no `dataset_name`"
            raise ValueError(
                f"The `loss` is a dict ({', '.join(map(repr, self.names))}), but a batch {told}. Evaluate a dict of data sets "
                "with the same keys; a data loader or collator of your own puts `dataset_name` into its batches."
            )
        return self.losses[self.names.index(data_set)]

    def train(self, mode: bool = True) -> Objective:
        """Switch the model's mode. What losses hold, a teacher or a decoder, stays as its loss set it up."""
        self.training = mode
        self.model.train(mode)
        return self

    def forward(self, columns: Any, label: Tensor | None = None, dataset_name: str | None = None) -> Any:
        """A batch of a data set -> a Step.

        Without the data set's name ("" for an only one): the features of one column -> what the model makes of them, for a
        `compute_loss` of one's own.
        """
        if dataset_name is None:
            return self.model(columns)
        loss = self.loss_of(dataset_name)
        # Under mixed precision only the model is autocast, by `half_precision`; the loss computes in full precision.
        with torch.autocast(self.model.device.type, enabled=False):
            value, embeddings = self.family.value(self.model, loss, columns, label, self.embed)
        seen = tuple(embedding.detach() for embedding in embeddings)
        if isinstance(value, dict):
            total = torch.stack(list(value.values())).sum()
            return Step(total, {name: part.detach() for name, part in value.items()}, seen)
        return Step(value, {}, seen)

    def named_trained_parameters(self) -> dict[str, nn.Parameter]:
        """What is trained: the model's parameters as `model.*`, a loss's own under its data set's name, if it has one."""
        named = {f"model.{name}": parameter for name, parameter in trained_weights(self.model).items()}
        for prefix, loss in zip(self.names or [""], self.losses, strict=True):
            for name, parameter in trained_weights(loss).items():
                if not any(parameter is known for known in named.values()):
                    named[f"{prefix}.{name}".lstrip(".")] = parameter
        return named

    def loss_state(self) -> dict[str, Tensor]:
        """The losses' own trained weights and their buffers, those of the model left out."""
        others = {id(tensor) for tensor in (*self.model.parameters(), *self.model.buffers())}
        own = {**trained_weights(self.losses), **dict(self.losses.named_buffers())}
        return {name: tensor for name, tensor in own.items() if id(tensor) not in others}

    def save_loss(self, folder: str | Path) -> None:
        """Write the losses' own weights, if they have any."""
        if state := self.loss_state():
            write_weights(state, Path(folder) / LOSS_WEIGHTS_FILE)

    def load_loss(self, folder: str | Path) -> None:
        """Read what `save_loss` wrote; refused where the folder's losses are others than these."""
        state = self.loss_state()
        read_weights(
            state,
            Path(folder) / LOSS_WEIGHTS_FILE,
            lambda saved: (
                f"The losses' weights in {folder} are {sorted(saved) or 'none'}, but this run's losses have "
                f"{sorted(state) or 'none'}. Resume with the loss that the run began with."
            ),
        )


@contextmanager
def half_precision(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Within this context the model computes in this dtype wherever it is called, also where a chunk is recomputed.

    None leaves the model as it is.
    """
    with ExitStack() as hooks:
        if dtype is not None:
            # The modules on their own as well: some losses run them one by one.
            for hook in [hook for module in (model, *model.children()) for hook in _autocast(module, dtype)]:
                hooks.enter_context(hook)
        yield


def _autocast(module: nn.Module, dtype: torch.dtype) -> list[Any]:
    open_contexts: list[torch.autocast] = []

    def enter(_: nn.Module, inputs: Any) -> None:
        parameter = next(module.parameters(), None)
        device = "cpu" if parameter is None else parameter.device.type
        open_contexts.append(torch.autocast(device, dtype))
        open_contexts[-1].__enter__()

    def leave(_: nn.Module, inputs: Any, output: Any) -> Any:
        open_contexts.pop().__exit__(None, None, None)
        for name in OUTPUTS if isinstance(output, dict) else ():
            if name in output and output[name].dtype == dtype:  # losses sum over many rows
                output[name] = output[name].float()
        return output

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
