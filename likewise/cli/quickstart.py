"""`likewise quickstart`: the main job on this machine's own text, from data to a search that works."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.cli import console
from likewise.cli.docstrings import Described, installed_packages, standard_library
from likewise.cli.index import Index
from likewise.cli.model_names import DEFAULT_MODEL
from likewise.cli.train import command, run

if TYPE_CHECKING:
    from likewise.cli.train import Outcome

QUESTION = "parse a date string"
RECIPE = """\
# Made by `likewise quickstart`; run it again with
#     likewise train {out}/recipe.yaml --data {out}
# To train on texts of your own, put pairs of texts that belong together into pairs.jsonl.
model: {model}
train:
  docstrings:
    source: ${{data}}/pairs.jsonl
    columns: [sentence, name]
    loss: MultipleNegativesRankingLoss
test:
  standard-library:
    evaluator: InformationRetrievalEvaluator
    source: ${{data}}/held-out
training:
  output_dir: {output_dir}
  num_train_epochs: 1
  per_device_train_batch_size: {batch_size}
  learning_rate: 5e-5
  batch_sampler: no_duplicates
  logging_steps: 1
  seed: {seed}
"""


def quickstart(
    model: Annotated[
        str, typer.Option(help="Folder or Hub name of the model to start from.")
    ] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="Folder for the data, the model and the index.")] = Path("demo"),
    pairs: Annotated[int, typer.Option(min=2, help="How many pairs to train on.")] = 4096,
    seed: Annotated[int, typer.Option(help="Decides which pairs, and all that is random in training.")] = 42,
) -> None:
    """Train a model on this machine's own text, and see that it helped.

    Teaches a model to find Python functions by what they do. It learns from the docstrings of the packages that are
    installed here, and is measured on the standard library, which it does not see in training. Nothing but the model is downloaded;
    two CPU cores need a few minutes.
    """
    held_out = standard_library()
    train = installed_packages(pairs, seed, held_out)
    if len(train) < 2:
        raise ValueError("The installed packages have no docstrings to train on. Install some, e.g. numpy.")
    recipe = _write_data(out, model, train, held_out, seed)
    _introduce(model, train, held_out)

    from likewise.recipe import read_recipe

    outcome = run(read_recipe(recipe, out))
    index = _save_index(out / "library", outcome, held_out)
    _conclude(out, outcome, index)


def _write_data(
    out: Path, model: str, train: Sequence[Described], held_out: Sequence[Described], seed: int
) -> Path:
    """Training pairs, the held-out library in BEIR layout, and the recipe; returns the recipe's path."""
    numbers = {
        sentence: str(number) for number, sentence in enumerate(dict.fromkeys(d.sentence for d in held_out))
    }
    (out / "held-out" / "qrels").mkdir(parents=True, exist_ok=True)
    _write_lines(out / "pairs.jsonl", ({"sentence": d.sentence, "name": d.name} for d in train))
    _write_lines(out / "held-out/queries.jsonl", ({"_id": n, "text": s} for s, n in numbers.items()))
    _write_lines(out / "held-out/corpus.jsonl", ({"_id": d.name, "text": d.name} for d in held_out))
    judgements = "".join(f"{numbers[d.sentence]}\t{d.name}\t1\n" for d in held_out)
    (out / "held-out/qrels/test.tsv").write_text(
        f"query-id\tcorpus-id\tscore\n{judgements}", encoding="utf-8"
    )
    recipe = out / "recipe.yaml"
    values = {
        "model": json.dumps(model),
        "out": out,
        "output_dir": json.dumps(str(out / "model")),
        "batch_size": min(64, len(train)),
        "seed": seed,
    }
    recipe.write_text(RECIPE.format(**values), encoding="utf-8")
    return recipe


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _introduce(model: str, train: Sequence[Described], held_out: Sequence[Described]) -> None:
    packages = {d.name.partition(".")[0] for d in train}
    example = next((d for d in train if len(d.sentence) + len(d.name) < 90), train[0])
    console.say("Find Python functions by what they do", style="bold")
    console.table(
        [
            ("model", model),
            (
                "train on",
                f"{len(train):,} pairs (sentence, function) from {len(packages)} installed packages, such as",
            ),
            ("", f'"{example.sentence}"  {example.name}'),
            ("measure on", f"{len(held_out):,} functions of the standard library, not seen in training"),
        ]
    )
    console.say()


def _save_index(folder: Path, outcome: Outcome, held_out: Sequence[Described]) -> Index:
    names = [d.name for d in held_out]
    embeddings = outcome.model.encode_document(names, show_progress_bar=False)
    index = Index(embeddings, names, [d.sentence for d in held_out], str(outcome.folder))
    index.save(folder)
    return index


def _conclude(out: Path, outcome: Outcome, index: Index) -> None:
    from likewise.cli.search import best

    before, after = (next(iter(metrics.values())) for metrics in (outcome.before, outcome.after))
    primary = next(iter(before))  # such as cosine_ndcg@10
    rows = [
        (title, f"{before[key]:.3f}", f"{after[key]:.3f}", f"{after[key] - before[key]:+.3f}")
        for title, key in (("nDCG@10", primary), ("accuracy@1", primary.replace("ndcg@10", "accuracy@1")))
    ]
    console.say()
    console.table(rows, header=("held-out library", "before", "after", "change"))
    console.say()
    console.say(
        f"Saved the model to {outcome.folder} and an index of the standard library to {out / 'library'}. Try it:"
    )
    console.say()
    console.say(f'$ {command()} search "{QUESTION}" {out / "library"}', style="bold")
    found = best(outcome.model, index, QUESTION, 3)
    console.table([(f"{score:.3f}", text, note) for score, text, note in found])
