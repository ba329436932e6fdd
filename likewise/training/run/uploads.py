"""Uploading checkpoints to the Hub while the training goes on."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import HubStrategy, SaveStrategy
from transformers.utils.hub import PushInProgress

from likewise.model.hub import upload
from likewise.training.run.objective import LOSS_WEIGHTS_FILE

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger(__name__)
# What a run needs to go on, and a user of the model does not.
STATE_FILES = ("optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "global_step*", "trainer_state.json", LOSS_WEIGHTS_FILE)  # fmt: skip
LAST_CHECKPOINT = "last-checkpoint"


def push_checkpoint(trainer: Trainer, checkpoint: Path) -> None:
    """Upload a checkpoint in the background, as `hub_strategy` says. What fails is reported and stops nothing."""
    args = trainer.args
    if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
        return
    under_way: Any = trainer.push_in_progress
    if under_way is not None and not under_way.is_done() and not args.hub_always_push:
        logger.info("%s is not uploaded: the upload before it is still under way.", checkpoint.name)
        return
    from huggingface_hub import HfApi, run_as_future

    trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
    snapshot = Path(str(args.output_dir)) / f"_{checkpoint.name}"
    _link(checkpoint, snapshot)
    when = f"step {trainer.state.global_step}"
    if args.save_strategy == SaveStrategy.EPOCH:
        when = f"epoch {int(trainer.state.epoch or 0)}"
    # Where in the repository the whole checkpoint goes, beside the model.
    places = {HubStrategy.CHECKPOINT: LAST_CHECKPOINT, HubStrategy.ALL_CHECKPOINTS: checkpoint.name}
    # One queue for all uploads of the process, so that the last checkpoint is the last to arrive.
    job: Any = run_as_future(
        _upload, HfApi(token=args.hub_token), str(trainer.hub_model_id), snapshot, f"Training in progress, {when}",
        places.get(HubStrategy(args.hub_strategy)), args.hub_revision,
    )  # fmt: skip
    if under_way is None or under_way.is_done():
        trainer.push_in_progress = PushInProgress([job])  # type: ignore[arg-type, assignment]
    else:
        under_way.jobs.append(job)


def _link(checkpoint: Path, snapshot: Path) -> None:
    """The same files once more, without copying them: old checkpoints may be deleted while they are uploaded."""

    def link(source: str, target: str) -> str:
        try:
            os.link(source, target)
        except OSError:  # a file system without hard links
            shutil.copy2(source, target)
        return target

    shutil.rmtree(snapshot, ignore_errors=True)
    shutil.copytree(checkpoint, snapshot, copy_function=link)


def _upload(
    api: object, repo_id: str, snapshot: Path, message: str, path: str | None, revision: str | None
) -> None:
    try:
        upload(api, repo_id, snapshot, message, ignore=STATE_FILES, revision=revision)
        if path is not None:
            upload(api, repo_id, snapshot, f"{message}, checkpoint", path_in_repo=path, revision=revision)
    except Exception as error:
        logger.warning("%s could not be uploaded to %s: %s", snapshot.name[1:], repo_id, error)
    finally:
        shutil.rmtree(snapshot, ignore_errors=True)
