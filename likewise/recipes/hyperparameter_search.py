"""Hyper-parameter search: short trainings with other settings each; those that lag behind are stopped (Optuna).

    command   likewise train hyperparameter_search --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   1.6 of processor time, 5 on the clock there
    score     STS benchmark's Spearman: 0.8203 before, 0.8275 after, with the best trial's learning rate of 1.4e-4: +0.0071 (95 %: +0.0002
              to +0.0143) from 256 rows

What is searched: the learning rate, the warmup and the scale of CoSENTLoss, on the STS benchmark. Each trial is measured on the
development set several times; one that is then worse than the median of those before it at the same step ends there. The best trial's
settings are those that count: the test set is measured once, with a model trained by them. Needs `pip install "likewise[search]"`.
"""

from __future__ import annotations

from typing import Any

import optuna

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.evaluation import EmbeddingSimilarityEvaluator
from likewise.losses import CoSENTLoss
from likewise.recipes.common import (
    STS_COLUMNS,
    before_and_after,
    measure,
    parser,
    read,
    settings,
    sts_test,
    sts_train,
    table,
)

DEV_ROWS = 200


def main() -> None:
    """Search, print all trials, and train and measure with the best one's settings."""
    options_of = parser(__doc__, rows=256)
    options_of.add_argument("--trials", type=int, default=5)
    options_of.add_argument("--measured-every", type=int, default=4, help="steps")
    options = options_of.parse_args()

    rows, test = sts_train(options.data, options.rows), sts_test(options.data)
    hub = ("sentence-transformers/stsb", "", "validation")
    dev = read(options.data, "sts/stsb-multi/en-dev.parquet", hub, STS_COLUMNS, rows=DEV_ROWS)
    first, second, scores = (list(dev[name]) for name in STS_COLUMNS)
    evaluator = EmbeddingSimilarityEvaluator(first, second, scores, name="stsb-dev")
    trials: dict[str, optuna.Study] = {}
    drawn = {"scale": 20.0}

    def space(trial: optuna.Trial) -> dict[str, Any]:
        trials["all"] = trial.study
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-6, 3e-4, log=True),
            "warmup_ratio": trial.suggest_float("warmup_ratio", 0, 0.3),
        }

    def model_of(trial: optuna.Trial | None) -> SentenceTransformer:
        if trial is not None:
            drawn["scale"] = trial.suggest_float("scale", 5, 40)
        return SentenceTransformer(options.model)

    def loss_of(model: SentenceTransformer) -> CoSENTLoss:
        return CoSENTLoss(model, scale=drawn["scale"])

    measured = settings(options, eval_strategy="steps", eval_steps=options.measured_every)
    trainer = SentenceTransformerTrainer(
        args=SentenceTransformerTrainingArguments(**measured),
        train_dataset=rows,
        evaluator=evaluator,
        model_init=model_of,
        loss=loss_of,
    )
    best: Any = trainer.hyperparameter_search(
        hp_space=space,
        compute_objective=lambda metrics: metrics["eval_stsb-dev_spearman_cosine"],
        n_trials=options.trials,
        direction="maximize",
        backend="optuna",
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    table(
        ("trial", "learning rate", "warmup", "scale", "stopped", "steps", "dev"),
        [row_of(trial) for trial in trials["all"].trials],
    )

    print()
    chosen = dict(best.hyperparameters)
    model = SentenceTransformer(options.model)
    before = measure(test, model)
    loss = CoSENTLoss(model, scale=chosen.pop("scale"))
    args = SentenceTransformerTrainingArguments(**settings(options, **chosen))
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()
    print(f"\nbest: trial {best.run_id}")
    before_and_after({"stsb-test": before}, {"stsb-test": measure(test, model)})


def row_of(trial: Any) -> tuple[Any, ...]:
    """What a trial had, and what came of it."""
    values, found = trial.params, trial.intermediate_values
    return (
        trial.number,
        f"{values['learning_rate']:.1e}",
        f"{values['warmup_ratio']:.2f}",
        f"{values['scale']:.0f}",
        "yes" if trial.state.name == "PRUNED" else "",
        max(found, default=0),
        found[max(found)] if found else "",
    )


if __name__ == "__main__":
    main()
