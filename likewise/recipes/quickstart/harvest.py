"""The quickstart's data: pairs from the installed packages to train on, the standard library to measure with, a recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.recipes.quickstart.docstrings import Described, installed_packages, standard_library

TEMPLATE = Path(__file__).parent / "recipe.yaml"
MEASURED = 600  # functions of the held-out library, always the same, that are searched for and among


@dataclass(frozen=True)
class Harvest:
    """What the quickstart trains on and measures with.

    Attributes:
        train: From the installed packages.
        held_out: From the standard library, none of it in `train`.
    """

    train: Sequence[Described]
    held_out: Sequence[Described]

    @property
    def measured(self) -> Sequence[Described]:
        """What is measured with: a fixed sample of the held-out library."""
        number = min(MEASURED, len(self.held_out))
        return random.Random(0).sample(self.held_out, number)

    def write(self, out: Path, model: str, seed: int) -> Path:
        """Write the training pairs, the held-out library in BEIR layout, and the recipe; returns the recipe's path.

        Args:
            out: The folder, which is made if it does not exist.
            model: Folder or Hub name of the model that the recipe starts from.
            seed: Of the training.
        """
        sample = self.measured
        sentences = dict.fromkeys(item.sentence for item in sample)
        queries = {sentence: str(number) for number, sentence in enumerate(sentences)}
        (out / "held-out" / "qrels").mkdir(parents=True, exist_ok=True)
        _write_lines(out / "pairs.jsonl", ({"sentence": d.sentence, "name": d.name} for d in self.train))
        _write_lines(out / "held-out/queries.jsonl", ({"_id": n, "text": s} for s, n in queries.items()))
        _write_lines(out / "held-out/corpus.jsonl", ({"_id": d.name, "text": d.name} for d in sample))
        judgements = "".join(f"{queries[d.sentence]}\t{d.name}\t1\n" for d in sample)
        (out / "held-out/qrels/test.tsv").write_text(
            f"query-id\tcorpus-id\tscore\n{judgements}", encoding="utf-8"
        )
        content = TEMPLATE.read_text(encoding="utf-8").format(
            model=json.dumps(model),
            out=out,
            output_dir=json.dumps(str(out / "model")),
            batch_size=min(64, len(self.train)),
            seed=seed,
        )
        recipe = out / "recipe.yaml"
        recipe.write_text(content, encoding="utf-8")
        return recipe


def harvest(pairs: int, seed: int) -> Harvest:
    """So many pairs to train on, or as many as there are, and all that is measured with.

    Args:
        pairs: How many pairs.
        seed: Decides which.

    Raises:
        ValueError: Nothing that is installed has docstrings.
    """
    held_out = standard_library()
    train = installed_packages(pairs, seed, held_out)
    if len(train) < 2:
        raise ValueError("The installed packages have no docstrings to train on. Install some, e.g. numpy.")
    return Harvest(train, held_out)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
