"""What a run saves and loads: checkpoints, the model and its card, uploads.

The functions here are methods of the trainer, which has them by name; `trainer` is what `self` is there.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy

from likewise.model.hub import with_retries
from likewise.training.run import checkpoints, sharding
from likewise.training.run.model_and_losses import unwrapped
from likewise.training.run.uploads import push_checkpoint

logger = logging.getLogger(__name__)


def get_output_dir(trainer: Any, trial: Any) -> str:
    """The folder of the run: while a checkpoint is written, the one aside."""
    return trainer._aside or Trainer._get_output_dir(trainer, trial)


def save_checkpoint(trainer: Any, model: nn.Module, trial: Any) -> None:
    """Write a checkpoint aside and move it into place; only then remove old ones and push to the Hub."""
    run_folder, step = trainer._get_output_dir(trial), trainer.state.global_step
    folder = Path(run_folder) / f"checkpoint-{step}"
    wait, is_first = trainer.accelerator.wait_for_everyone, trainer.args.should_save
    with checkpoints.written_aside(run_folder, step, wait, is_first) as aside:
        trainer._aside = aside
        if trainer.state.best_global_step == step:
            trainer.state.best_model_checkpoint = str(folder)
        try:
            Trainer._save_checkpoint(trainer, model, trial)
        finally:
            trainer._aside = None
        if trainer.state.best_global_step == step:  # it is known by the path that it is moved to
            trainer.state.best_model_checkpoint = str(folder)
            if trainer.args.should_save:
                trainer.state.save_to_json(str(Path(aside) / folder.name / checkpoints.STATE_FILE))
    if trainer.args.push_to_hub:
        trainer._push_from_checkpoint(str(folder))
    if trainer.args.should_save:
        checkpoints.remove_old(run_folder, trainer.args.save_total_limit, trainer.state.best_model_checkpoint)


def save(trainer: Any, output_dir: str | None = None, state_dict: Any = None) -> None:
    """Write the model, the losses' own weights, fresh adapters and the arguments to a folder, in one process."""
    if not trainer.args.should_save:
        return
    folder = Path(output_dir or str(trainer.args.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    trainer.model.save_pretrained(folder, create_model_card=has_card(trainer, folder))
    trainer.trained.save_loss(folder)
    checkpoints.save_adapted(trainer.model, folder)
    torch.save(trainer.args, folder / "training_args.bin")


def save_model(trainer: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
    """Write the model as `_save` does, in the first process; where weights lie in shards, all processes must call it."""
    with sharding.whole(trainer.trained, first=True):
        Trainer.save_model(trainer, output_dir, _internal_call)


def save_optimizer_and_scheduler(trainer: Any, output_dir: str) -> None:
    """Write the states of optimiser and schedule, in the first process."""
    if not sharding.is_sharded(trainer.trained):
        Trainer._save_optimizer_and_scheduler(trainer, output_dir)
        return
    gathering = unwrapped(trainer.optimizer).register_state_dict_post_hook(sharding.gather_states)
    if not trainer.args.should_save:
        trainer.optimizer.state_dict()  # for the first process, which writes it
    Trainer._save_optimizer_and_scheduler(trainer, output_dir)
    gathering.remove()


def finalize_training(trainer: Any, *args: Any, **kwargs: Any) -> Any:
    """End the run: what comes now, the best model or a callback, finds whole weights on each process."""
    sharding.join(trainer.trained)
    return Trainer._finalize_training(trainer, *args, **kwargs)


def push_from_checkpoint(trainer: Any, checkpoint_folder: str) -> None:
    """Upload a checkpoint, once it is in its place."""
    if trainer._aside is None:
        push_checkpoint(trainer, Path(checkpoint_folder))


def push_to_hub(
    trainer: Any, commit_message: str | None = "End of training", blocking: bool = True, **kwargs: Any
) -> Any:
    """Save the model to the output folder and upload it; a lost connection is tried again.

    Args:
        commit_message: Of the upload.
        blocking: Whether to wait until it is done.
        **kwargs: As transformers' method takes them, and those of `create_model_card`.
    """
    push = partial(Trainer.push_to_hub, trainer, commit_message, blocking=blocking, **kwargs)
    return with_retries(push, "uploading the trained model")


def create_model_card(
    trainer: Any,
    language: str | list[str] | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    **kwargs: Any,
) -> None:
    """Write the model card to the output folder.

    Args:
        language: Languages that the model is for.
        license: The licence.
        tags: Further tags.
        model_name: A title.
        **kwargs: What transformers' own card would tell besides; the data tells that here.
    """
    if not trainer.is_world_process_zero():
        return
    data = trainer.model.model_card_data
    if language:
        data.set_language(language)
    if license:
        data.set_license(license)
    data.add_tags(tags or [])
    trainer.model._create_model_card(trainer.args.output_dir, model_name=model_name)


def has_card(trainer: Any, folder: Path) -> bool:
    """Whether a model card is written: with the best checkpoint so far, the last one, and any that goes to the Hub."""
    step, args = trainer.state.global_step, trainer.args
    return (
        not folder.name.startswith(PREFIX_CHECKPOINT_DIR)
        or step in (trainer.state.best_global_step, trainer.state.max_steps)
        or (args.push_to_hub and args.hub_strategy != HubStrategy.END)
    )


def load_from_checkpoint(trainer: Any, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
    """Load the weights of the model and of the losses from a checkpoint."""
    checkpoints.load_weights(trainer.model, resume_from_checkpoint)
    trainer.trained.load_loss(resume_from_checkpoint)


def load_best_model(trainer: Any) -> None:
    """Load the best checkpoint, and tell the model card its step."""
    best = trainer.state.best_model_checkpoint
    logger.info("Loading the best model, from %s.", best)
    trainer._load_from_checkpoint(str(best))
    trainer.model.model_card_data.set_best_model_step(int(str(best).rpartition("-")[2]))
