"""Checkpoints: written aside and moved into place, so that the newest one is always whole."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

if TYPE_CHECKING:
    from likewise.model.sentence_transformer import SentenceTransformer

ASIDE = "saving"
STATE_FILE = "trainer_state.json"
ADAPTED_FILE = "trained.safetensors"


@contextmanager
def written_aside(run_folder: str, step: int, wait: Any, is_first: bool) -> Iterator[str]:
    """A folder to write `checkpoint-{step}` in; on leaving it is moved into the run's folder.

    What a run that was killed left half-written is removed.

    Args:
        run_folder: The run's folder.
        step: The number of the step.
        wait: Waits for all processes.
        is_first: Whether this process moves and removes.
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


def save_adapted(model: SentenceTransformer, folder: Path) -> None:
    """Write what is trained of a model with a PEFT adapter: the folder itself holds the adapter alone."""
    if any(getattr(module, "peft_config", None) for module in model.modules()):
        from safetensors.torch import save_file

        trained = {
            name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad
        }
        save_file(trained, folder / ADAPTED_FILE)


def _load_adapted(model: SentenceTransformer, path: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(path)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if {name: p.shape for name, p in trained.items()} != {name: value.shape for name, value in saved.items()}:
        raise ValueError(
            f"The adapter in {path.parent} does not fit the model's: {len(saved)} weights are saved and {len(trained)} "
            "trained, or of other shapes. Begin with the adapter that the run began with."
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(saved[name])


def load_weights(model: SentenceTransformer, checkpoint: str) -> None:
    """Give a model the weights of a checkpoint.

    Raises:
        ValueError: They do not fit.
    """
    if (Path(checkpoint) / ADAPTED_FILE).exists():
        _load_adapted(model, Path(checkpoint) / ADAPTED_FILE)
        return
    from likewise.model.sentence_transformer import SentenceTransformer

    saved = SentenceTransformer(checkpoint, device="cpu", trust_remote_code=model.trust_remote_code)
    state, wanted = saved.state_dict(), model.state_dict()
    wrong = sorted(
        {*state} ^ {*wanted} | {key for key in {*state} & {*wanted} if state[key].shape != wanted[key].shape}
    )
    if wrong:
        raise ValueError(
            f"The weights in {checkpoint} do not fit the model: {wrong[0]!r} (and {len(wrong) - 1} more) is missing or of "
            "another shape. Begin with the model that the run began with."
        )
    model.load_state_dict(state)


def newest_checkpoint(run_folder: str) -> str:
    """The checkpoint with the highest step.

    Raises:
        FileNotFoundError: There is none.
    """
    from transformers.trainer_utils import get_last_checkpoint

    found: str | None = get_last_checkpoint(run_folder) if os.path.isdir(run_folder) else None
    if found is None:
        raise FileNotFoundError(
            f"There is no checkpoint in {run_folder}. Train without `resume_from_checkpoint`, or check `output_dir`."
        )
    return found


def check_complete(checkpoint: str) -> None:
    """Refuse a folder that a run cannot be resumed from.

    Raises:
        FileNotFoundError: There is no such folder, or files are missing.
    """
    if not os.path.isdir(checkpoint):
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}. Check `resume_from_checkpoint`.")
    for name in (STATE_FILE, "optimizer.pt", "scheduler.pt"):
        if not os.path.isfile(os.path.join(checkpoint, name)):
            hint = (
                ""
                if name == STATE_FILE
                else " It was saved with `save_only_model=True`, or is no checkpoint."
            )
            raise FileNotFoundError(
                f"The checkpoint {checkpoint} has no {name}.{hint} Take another one, or train from its weights with "
                "`SentenceTransformer(...)`."
            )
