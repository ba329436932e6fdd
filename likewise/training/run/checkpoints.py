"""Checkpoints: written aside and moved into place, so that the newest one is always whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

if TYPE_CHECKING:
    from likewise.model.model import Model

ASIDE = "saving"
STATE_FILE = "trainer_state.json"
ADAPTED_FILE = "trained.safetensors"


@contextmanager
def written_aside(run_folder: str, step: int, wait: Any, is_first: bool) -> Iterator[str]:
    """A folder to write `checkpoint-{step}` in; on leaving it is moved into the run's folder.

    What a run that was killed left half-written is removed. `wait` waits for all processes, of which the first moves and removes.
    """
    aside = Path(run_folder) / ASIDE
    if is_first:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    wait()
    yield str(aside)
    wait()
    if is_first:
        name = f"{PREFIX_CHECKPOINT_DIR}-{step}"
        move_into_place(aside / name, Path(run_folder) / name)
        shutil.rmtree(aside)
    wait()


def move_into_place(folder: Path, target: Path) -> None:
    """Rename a folder. One that is there already is first renamed out of the way, then removed."""
    before = folder.with_name(f"{target.name}-before")
    if target.exists():
        os.replace(target, before)
    os.replace(folder, target)
    shutil.rmtree(before, ignore_errors=True)


def remove_old(run_folder: str, limit: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints, so that `limit` are left; the newest and the best one always stay."""
    if limit is None or limit < 1:
        return
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    found = {int(m[1]): path for path in Path(run_folder).iterdir() if (m := pattern.fullmatch(path.name))}
    ordered = [found[step] for step in sorted(found)]
    wanted = {ordered[-1].name, *([Path(best).name] if best else [])}
    excess = len(ordered) - max(limit, len(wanted))
    for path in [path for path in ordered if path.name not in wanted][: max(excess, 0)]:
        aside = path.with_name(f"{ASIDE}-removed")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(path, aside)  # a kill in the middle of removing leaves no checkpoint with files missing
        shutil.rmtree(aside)


def save_adapted(model: Model, folder: Path) -> None:
    """Write what is trained of a model with a PEFT adapter: the folder itself holds the adapter alone."""
    if any(getattr(module, "peft_config", None) for module in model.modules()):
        write_weights(trained_weights(model), folder / ADAPTED_FILE)


def trained_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def write_weights(named: Mapping[str, Tensor], path: Path) -> None:
    """Write weights to a file."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}, path)


def read_weights(named: Mapping[str, Tensor], path: Path, refused: Callable[[Collection[str]], str]) -> None:
    """Put what a file holds into weights; where it holds others, or of other shapes, `refused` words it of the file's names."""
    from safetensors.torch import load_file

    saved = load_file(path) if path.exists() else {}
    if {name: tensor.shape for name, tensor in named.items()} != {n: t.shape for n, t in saved.items()}:
        raise ValueError(refused(saved))
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(saved[name])


def load_weights(model: Model, checkpoint: str) -> None:
    """Give a model the weights of a checkpoint; refused where they do not fit."""
    if (Path(checkpoint) / ADAPTED_FILE).exists():
        trained = trained_weights(model)
        read_weights(
            trained,
            Path(checkpoint) / ADAPTED_FILE,
            lambda saved: (
                f"The adapter in {checkpoint} does not fit the model's: {len(saved)} weights are saved and "
                f"{len(trained)} trained, or of other shapes. Begin with the adapter that the run began with."
            ),
        )
        return
    state, wanted = model.weights_in(checkpoint), model.state_dict()
    shapes, known = ({(key, value.shape) for key, value in each.items()} for each in (state, wanted))
    wrong = sorted({key for key, _ in shapes ^ known})
    if wrong:
        raise ValueError(
            f"The weights in {checkpoint} do not fit the model: {wrong[0]!r} (and {len(wrong) - 1} more) is missing or of "
            "another shape. Begin with the model that the run began with."
        )
    model.load_state_dict(state)


def newest_checkpoint(run_folder: str) -> str:
    """The checkpoint with the highest step; refused where there is none."""
    from transformers.trainer_utils import get_last_checkpoint

    found: str | None = get_last_checkpoint(run_folder) if os.path.isdir(run_folder) else None
    if found is None:
        raise FileNotFoundError(
            f"There is no checkpoint in {run_folder}. Train without `resume_from_checkpoint`, or check `output_dir`."
        )
    return found


def check_complete(checkpoint: str) -> None:
    """Refuse a folder that a run cannot be resumed from."""
    if not os.path.isdir(checkpoint):
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}. Check `resume_from_checkpoint`.")
    only_model = " It was saved with `save_only_model=True`, or is no checkpoint."
    for name, why in ((STATE_FILE, ""), ("optimizer.pt", only_model), ("scheduler.pt", only_model)):
        if not os.path.isfile(os.path.join(checkpoint, name)):
            raise FileNotFoundError(
                f"The checkpoint {checkpoint} has no {name}.{why} Take another one, or train from its weights with "
                "`SentenceTransformer(...)`."
            )
