"""What a recipe's training does to its test score, beside the reference with the same settings.

    python benchmarks/sts_recipe.py --data ../shared/data --seeds 1 2 3

Both libraries start from the same model, and train on the same rows with the same loss and arguments, dropout included:
their random numbers differ, so that single runs differ too. One row per library and seed.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from common import arguments, model_folder, report

RECIPE = Path(__file__).parents[1] / "likewise" / "recipes" / "sts_cosent.yaml"
SHOWN_ONLY = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}


def train(library: Any, recipe: Any, folder: str, seed: int) -> dict[str, object]:
    """Train with a library's own classes; the row of the table."""
    losses, evaluation = (import_module(f"{library.__name__}.{name}") for name in ("losses", "evaluation"))
    model = library.SentenceTransformer(folder, device="cpu")
    ((_, part),) = recipe.train.items()
    ((name, test),) = recipe.test.items()
    rows = test.source.load()
    evaluator = getattr(evaluation, test.evaluator)(
        *(list(rows[column]) for column in rows.column_names), name=name
    )
    before = evaluator(model)[evaluator.primary_metric]
    trainer = library.SentenceTransformerTrainer(
        model=model,
        args=library.SentenceTransformerTrainingArguments(
            **{
                **recipe.training,
                **SHOWN_ONLY,
                "output_dir": tempfile.mkdtemp(),
                "seed": seed,
                "use_cpu": True,
            }
        ),
        train_dataset=part.source.load(),
        loss=getattr(losses, part.loss.name)(model, **part.loss.arguments),
    )
    start = time.perf_counter()
    trainer.train()
    minutes = (time.perf_counter() - start) / 60
    after = evaluator(model)[evaluator.primary_metric]
    return {
        "library": library.__name__,
        "seed": seed,
        "metric": evaluator.primary_metric,
        "before": f"{before:.4f}",
        "after": f"{after:.4f}",
        "minutes": round(minutes, 1),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="a recipe with one data set and one test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import sentence_transformers

    import likewise
    from likewise.recipe import read_recipe

    recipe = read_recipe(options.recipe, options.data)
    folder = model_folder(options.model)
    rows = [
        train(library, recipe, folder, seed)
        for seed in options.seeds
        for library in (likewise, sentence_transformers)
    ]
    report(rows, options.json)


if __name__ == "__main__":
    main()
