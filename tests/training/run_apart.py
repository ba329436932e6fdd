"""A training run in a process of its own, for tests that kill it or start several: `run_apart.py settings.json`.

Without an argument it serves: for each line of JSON (path, processes, port) it forks, and writes the exit status.

The settings are a dict: `model`, `folder` (for results), `kind` of data, `arguments`, and perhaps `resume`, `kill_at`
(a step, or "saving") and `loss`. It writes the losses of all steps and the last weights to `folder`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.distributed.fsdp import FSDPModule
from training_common import scored_pairs, triplets
from transformers import TrainerCallback

from likewise import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    SparseEncoder,
    SparseEncoderTrainer,
    SparseEncoderTrainingArguments,
    losses,
)
from likewise.cross_encoder import losses as cross_losses
from likewise.cross_encoder.evaluation import CrossEncoderCorrelationEvaluator
from likewise.evaluation import EmbeddingSimilarityEvaluator
from likewise.multi_vector_encoder import losses as multi_losses
from likewise.sparse_encoder import losses as sparse_losses
from likewise.training.run.evaluating import over_processes, run_evaluator
from likewise.training.run.settings import settings_of

CROSS = ("pairs", "lists", "evaluator of pairs")
"""Kinds of runs that train a CrossEncoder."""
FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    **dict.fromkeys(CROSS, (CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments)),
    "splade": (SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments),
    "tokens": (MultiVectorEncoder, MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments),
}
"""Model, trainer and arguments of the kinds that train no SentenceTransformer."""


class KillAt(TrainerCallback):
    """Ends the process at once, as a machine that fails would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class SeesShards(TrainerCallback):
    """Notes which modules are gathered by themselves, and that a process has no more than its share."""

    def __init__(self, trainer: Any, shards: dict[str, str]) -> None:
        self.trainer, self.shards = trainer, shards

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        modules = self.trainer.trained.named_modules()
        self.shards |= {
            name: type(module).__name__ for name, module in modules if isinstance(module, FSDPModule)
        }
        for parameter in self.trainer.trained.parameters():
            assert parameter.to_local().numel() <= (parameter.shape[0] + 1) // 2 * parameter[0].numel()


def labelled(rows: int) -> Any:
    data = triplets(rows).select_columns(["anchor", "positive"])
    return data.add_column("label", [number % 3 for number in range(rows)])


def lists(rows: int) -> Any:
    """Queries with two to four documents each."""
    data = triplets(rows)
    documents = [[*row.values()][1:] * (1 + number % 2) for number, row in enumerate(data)]
    labels = [[float(place % 3) for place in range(len(row))] for row in documents]
    return Dataset.from_dict({"query": data["anchor"], "documents": documents, "labels": labels})


class Parts(losses.CosineSimilarityLoss):
    """A loss of two named parts, each a mean over rows: that of a joined batch is the mean of two halves'."""

    def compute(self, embeddings: Any, labels: Any = None) -> dict[str, torch.Tensor]:
        length = sum(column.square().mean() for column in embeddings)
        return {"cosine": super().compute(embeddings, labels), "length": 0.1 * length}


def run_of(kind: str, model: Any, loss_options: dict[str, Any]) -> tuple[Any, Any]:
    """Training data and losses."""
    if kind == "splade":
        inner = sparse_losses.SparseMultipleNegativesRankingLoss(model, **loss_options)
        return triplets(48), sparse_losses.SpladeLoss(model, inner, 0.1, 0.2)
    if kind == "tokens":
        return triplets(48), multi_losses.MultiVectorMultipleNegativesRankingLoss(model, **loss_options)
    if kind in ("pairs", "evaluator of pairs"):
        return scored_pairs(48), cross_losses.BinaryCrossEntropyLoss(model)
    if kind == "lists":
        # Every list has the same loss whatever is added to its scores: the bias follows rounding alone.
        model[0].model.classifier.bias.requires_grad_(False)
        return lists(48), cross_losses.ListNetLoss(model)
    ranking = losses.MultipleNegativesRankingLoss(model, **loss_options)
    if kind == "softmax":
        return labelled(48), losses.SoftmaxLoss(model, 32, 3)
    if kind == "parts":
        return scored_pairs(48), Parts(model)
    if kind == "stream":
        return triplets(48).to_iterable_dataset(num_shards=3).shuffle(seed=1, buffer_size=10), ranking
    if kind == "endless stream":
        data = triplets(20).to_iterable_dataset().filter(lambda row: len(row["anchor"]) > 0)
        return data, ranking
    if kind == "several":
        data = {"a": labelled(40), "b": triplets(30), "c": scored_pairs(24).to_iterable_dataset()}
        return data, {"a": losses.SoftmaxLoss(model, 32, 3), "b": ranking, "c": losses.CoSENTLoss(model)}
    if kind == "two":
        return {"a": triplets(40), "b": scored_pairs(40)}, {
            "a": ranking,
            "b": losses.CosineSimilarityLoss(model),
        }
    if kind == "noise":
        return triplets(48).with_transform(_noise), ranking
    return triplets(48), ranking


def _noise(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    import random

    return {
        name: [" ".join(w for w in t.split() if random.random() > 0.3) or t for t in v]
        for name, v in rows.items()
    }


def folder_of(settings: dict[str, Any]) -> Path:
    return Path(settings["folder"])


def _evaluate_shared(model_folder: str, folder: Path, is_cross: bool) -> dict[str, Any]:
    """What an evaluator measures before any step, and how many texts each process embedded."""
    data = scored_pairs(31, seed=3)
    counted: list[int] = []
    first, second = list(data["sentence1"]), list(data["sentence2"])
    evaluator: Any = EmbeddingSimilarityEvaluator(first, second, data["score"])
    model: Any = SentenceTransformer(model_folder, device="cpu")
    if is_cross:
        model = CrossEncoder(model_folder, device="cpu")
        evaluator = CrossEncoderCorrelationEvaluator(list(zip(first, second, strict=True)), data["score"])
    run = getattr(type(model), model.over_inputs)

    def counting(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        counted.append(len(inputs))
        return run(self, inputs, *args, **kwargs)

    setattr(type(model), model.over_inputs, counting)
    metrics = run_evaluator(evaluator, model, str(folder), 0, 0)
    return {"evaluator": metrics, "encoded": over_processes(sum(counted))}


def _evaluator() -> Any:
    data = scored_pairs(7, seed=3)
    return EmbeddingSimilarityEvaluator(list(data["sentence1"]), list(data["sentence2"]), data["score"])


def main(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dense = SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    model_class, trainer_class, arguments = FAMILIES.get(settings["kind"], dense)
    model: Any = model_class(settings["model"], device="cpu")
    if settings["kind"] == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, target_modules=["query", "value"], lora_dropout=0.1)
        model[0].auto_model = get_peft_model(model[0].auto_model, config)
    data, loss = run_of(settings["kind"], model, settings.get("loss", {}))
    args = arguments(
        logging_steps=1, report_to="none", disable_tqdm=True, use_cpu=True, **settings["arguments"]
    )
    kill = settings.get("kill_at")
    trainer = trainer_class(
        model=model,
        args=args,
        train_dataset=data,
        eval_dataset=labelled(21) if settings.get("evaluate") else None,
        evaluator=_evaluator() if settings.get("save") else None,
        loss=loss,
        callbacks=[KillAt(kill)] if isinstance(kill, int) else None,
    )
    if kill == "saving":
        save = trainer._save_optimizer_and_scheduler

        def save_and_die(folder: str) -> None:
            save(folder)
            if trainer.state.global_step >= 4:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer._save_optimizer_and_scheduler = save_and_die  # type: ignore[method-assign]
    shards: dict[str, str] = {}
    if args.is_sharded:
        trainer.add_callback(SeesShards(trainer, shards))
    trainer.train(resume_from_checkpoint=settings.get("resume"))
    if settings.get("save"):
        trainer.save_model(str(folder_of(settings) / "final"))
    shared = (
        _evaluate_shared(settings["model"], folder_of(settings), settings["kind"] in CROSS)
        if settings["kind"].startswith("evaluator")
        else {}
    )
    evaluated = trainer.evaluate() if settings.get("evaluate") else {}
    if trainer.is_world_process_zero():
        folder = folder_of(settings)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "weights": {name: p.detach() for name, p in trainer.trained.state_dict().items()},
            "optimizer": {} if args.is_sharded else trainer.optimizer.state_dict()["state"],
            "schedule": trainer.lr_scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "losses": {e["step"]: e["loss"] for e in trainer.state.log_history if "loss" in e},
            "measured": {
                entry["step"]: value
                for entry in trainer.state.log_history
                for name, value in entry.items()
                if name in ("eval_loss", "eval_spearman_cosine")
            },
            "evaluated": evaluated.get("eval_loss"),
            **shared,
            "shards": shards,
            "batch": settings_of(trainer)["batch"],
            "health": [e for e in trainer.state.log_history if "loss" in e][-1],
        }
        torch.save(state, folder / "result.pt")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def serve() -> None:
    """Fork for each run that standard input asks for."""
    for line in sys.stdin:
        order = json.loads(line)
        children = [_fork(order, rank) for rank in range(order["processes"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(next((code for code in codes if code), 0), flush=True)


def _fork(order: dict[str, Any], rank: int) -> int:
    child = os.fork()
    if child:
        return child
    path = Path(order["path"])
    said = os.open(
        path.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | (os.O_APPEND if rank else os.O_TRUNC)
    )
    os.dup2(said, 1)
    os.dup2(said, 2)
    if order["processes"] > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(order["processes"]),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(order["port"]),
        }  # fmt: skip
    try:
        main(json.loads(path.read_text(encoding="utf-8")))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    else:
        serve()
