"""`evaluate` chooses the evaluator by the columns; `check` says which losses fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import sentences, small_model_folder

TEXTS = sentences(18, seed=5)
RECIPE = """
model: ./nowhere
train: {pairs: {source: "${data}/pairs.csv", loss: CoSENTLoss}}
test: {held-out: {source: "${data}/pairs.csv", columns: [a, b, score], evaluator: EmbeddingSimilarityEvaluator}}
"""


@pytest.fixture(autouse=True)
def tables(tmp_path: Path) -> None:
    """Tables of six rows, a shape each."""
    rows = list(zip(TEXTS[:6], TEXTS[6:12], TEXTS[12:], strict=True))
    scores, labels = [0.1, 0.9, 0.4, 0.3, 0.8, 0.5], [0, 1, 0, 0, 1, 1]
    shapes: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
        "pairs": ("a,b,score", [(a, b, score) for (a, b, _), score in zip(rows, scores, strict=True)]),
        "classes": ("a,b,label", [(a, b, label) for (a, b, _), label in zip(rows, labels, strict=True)]),
        "triplets": ("a,b,c", rows),
        "matches": ("a,b", [(a, b) for a, b, _ in rows]),
        "texts": ("a", [(a,) for a, _, _ in rows]),
    }
    for name, (header, lines) in shapes.items():
        (tmp_path / f"{name}.csv").write_text(
            "\n".join([header, *(",".join(map(str, line)) for line in lines)]) + "\n"
        )


@pytest.mark.parametrize(
    ("table", "evaluator", "reason", "primary"),
    [
        (
            "pairs",
            "EmbeddingSimilarityEvaluator",
            "a, b are two texts and score is a number from a range",
            "spearman_cosine",
        ),
        ("classes", "BinaryClassificationEvaluator", "a, b are two texts and label is 0 or 1", "cosine_ap"),
        ("triplets", "TripletEvaluator", "a, b, c are three texts", "cosine_accuracy"),
        ("matches", "TranslationEvaluator", "a, b are two texts, without a number", "mean_accuracy"),
    ],
)
def test_the_columns_decide_what_is_measured_and_it_is_said_why(
    run: Callable[..., Any], model_folder: str, table: str, evaluator: str, reason: str, primary: str
) -> None:
    result = run("evaluate", model_folder, "--data", f"{table}.csv")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{table}: {evaluator} ({reason})"
    assert lines[1].split()[0] == primary


def test_columns_may_be_chosen(run: Callable[..., Any], model_folder: str) -> None:
    result = run("evaluate", model_folder, "--data", "triplets.csv", "--columns", "a, c")
    assert result.exit_code == 0, result.output
    assert "TranslationEvaluator" in result.stdout


def test_a_recipe_is_measured_by_its_own_evaluators(run: Callable[..., Any], model_folder: str) -> None:
    Path("recipe.yaml").write_text(RECIPE)
    result = run("evaluate", model_folder, "--data", "recipe.yaml", "--recipe-data", ".")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("held-out: EmbeddingSimilarityEvaluator (recipe.yaml names it)\n")


def test_two_models_are_compared(run: Callable[..., Any], model_folder: str, tmp_path: Path) -> None:
    other = small_model_folder(tmp_path / "other", seed=1)
    result = run("evaluate", model_folder, other, "--data", "classes.csv", "--compare")
    assert result.exit_code == 0, result.output
    title, header, first, *_ = result.stdout.splitlines()
    assert title.startswith("classes: BinaryClassificationEvaluator (")
    assert header.split() == [Path(model_folder).name, "other", "difference", "from", "to", "p"]
    name, model, compared, difference, low, high, p = first.split()
    assert name == "cosine_ap"
    assert float(difference) == pytest.approx(float(compared) - float(model), abs=2e-4)
    assert float(low) <= float(high)
    assert 0 < float(p) <= 1
    alone = run("evaluate", other, "--data", "classes.csv").stdout
    assert alone.splitlines()[1].split() == ["cosine_ap", compared]

    beside = run("evaluate", model_folder, other, "--data", "classes.csv").stdout.splitlines()
    assert beside[1].split() == [Path(model_folder).name, "other"]
    assert beside[2].split() == ["cosine_ap", model, compared]


def test_intervals_stand_beside_the_numbers(run: Callable[..., Any], model_folder: str) -> None:
    result = run("evaluate", model_folder, "--data", "triplets.csv", "--intervals")
    assert result.exit_code == 0, result.output
    _, header, line = result.stdout.splitlines()
    assert header.split() == ["from", "to"]
    name, value, low, high = line.split()
    assert name == "cosine_accuracy"
    assert 0 <= float(low) <= float(value) <= float(high) <= 1


def test_what_cannot_be_measured_is_refused(refused: Callable[..., str]) -> None:
    assert "texts.csv has the columns a, but a table for evaluation has two texts" in refused(
        "evaluate", "--data", "texts.csv"
    )
    assert "has no column 'd', only 'a', 'b'" in refused(
        "evaluate", "--data", "matches.csv", "--columns", "a,d"
    )
    assert "`--compare` takes two models or more, but got all-MiniLM-L6-v2. Name another" in refused(
        "evaluate", "--data", "pairs.csv", "--compare"
    )
    assert "nowhere.csv" in refused("evaluate", "--data", "nowhere.csv")
    Path("recipe.yaml").write_text(RECIPE.replace("test:", "dev:").split("dev:")[0])
    assert "recipe.yaml has no evaluators" in refused(
        "evaluate", "--data", "recipe.yaml", "--recipe-data", "."
    )


def test_check_lists_the_losses_that_fit_and_why_others_do_not(run: Callable[..., Any]) -> None:
    result = run("check", "triplets.csv", "--all")
    assert result.exit_code == 0, result.output
    header, rest = result.stdout.split("\nfits\n")
    fits, _, refusals = rest.partition("does not fit: ")
    assert header.startswith(
        "triplets.csv: 6 rows, columns a, b, c\nstart with\n  MultipleNegativesRankingLoss  the usual one"
    )
    assert "TripletLoss" in fits
    assert "trains on anchor=a, positive=b, negative=c" in fits
    assert "CoSENTLoss" not in fits
    assert refusals.startswith("the data has 3 text columns: 'a', 'b', 'c'")
    assert "CoSENTLoss" in refusals


def test_check_looks_at_the_labels_too(run: Callable[..., Any]) -> None:
    Path("stars.csv").write_text("a,b,score\nx y,y z,5\np q,q r,1\n")
    result = run("check", "stars.csv", "--all")
    fits, _, refusals = result.stdout.partition("does not fit: ")
    assert "CoSENTLoss" in fits
    assert "CosineSimilarityLoss" not in fits
    assert "Label column 'score' of the data holds 5 in row 0. Correct or scale the labels" in refusals
    assert re.search("CosineSimilarityLoss +takes one number per row: from -1 to 1", refusals)


def test_check_takes_words_for_classes_and_says_how_they_become_numbers(run: Callable[..., Any]) -> None:
    words = [f"class {n:02}" for n in range(12) for _ in range(n + 1)]
    Path("named.csv").write_text("text,label\n" + "".join(f"x {i},{word}\n" for i, word in enumerate(words)))
    lines = run("check", "named.csv", "--all").stdout.splitlines()
    assert lines[1].split() == ["label", "class", "11", "12", "#" * 30]  # the most frequent first
    assert lines[11] == "  and 2 others, each in fewer rows"
    assert lines[12].endswith(
        "in a recipe: `classes: {label: [class 00, class 01, class 02, class 03, ...]}`"
    )
    assert lines[13:15] == ["start with", lines[14]]
    assert lines[14].startswith("  BatchAllTripletLoss")


def test_grades_are_not_recommended_for_words(run: Callable[..., Any]) -> None:
    rows = "".join(f"x {i},y {i},{('yes', 'no', 'maybe')[i % 3]}\n" for i in range(9))
    Path("nli.csv").write_text(f"a,b,label\n{rows}")
    output = run("check", "nli.csv").stdout
    assert "`classes: {label: [maybe, no, yes]}`" in output
    assert "  SoftmaxLoss  for classes of pairs" in output
    assert "  CrossEntropyLoss  for classes of pairs" in output
    assert "CoSENTLoss" not in output


def test_check_leaves_numbers_aside_and_shows_what_to_type(run: Callable[..., Any]) -> None:
    Path("ids.csv").write_text("id,question,answer,votes\n1,how is this?,so,0.5\n2,what?,that,1.5\n")
    output = run("check", "ids.csv").stdout
    assert output.startswith(
        "Left aside, for it is no text: id, votes. For good: `--columns question,answer`"
    )
    assert "MultipleNegativesRankingLoss" in output
    assert run("check", "ids.csv", "--columns", "question,answer").stdout.startswith("ids.csv: 2 rows")


def test_check_says_what_the_dataset_of_its_fixes_is(run: Callable[..., Any]) -> None:
    Path("twice.csv").write_text("a,b\n" + "".join(f"x {i % 20},y {i % 20}\n" for i in range(40)))
    output = run("check", "twice.csv").stdout
    assert "50.0% of the rows of twice.csv are there already" in output
    assert '`dataset` is `load_dataset("csv", data_files="twice.csv", split="train")`' in output


def test_what_holds_no_rows_is_refused_in_a_sentence(refused: Callable[..., str], model_folder: str) -> None:
    message = refused("check", model_folder)
    assert message.endswith("holds no rows that can be read: is it the folder of a model? Name a table.")
    for name in ("header.csv", "header.tsv", "blank.jsonl"):
        Path(name).write_text(
            "\n" if name == "blank.jsonl" else "a,b\n".replace(",", "\t" if "tsv" in name else ",")
        )
        assert refused("check", name) == f"{name} has no rows."
    Path("empty.jsonl").touch()
    assert "empty.jsonl has no rows." in refused("check", "empty.jsonl")


def test_check_numbers_columns_of_one_role(run: Callable[..., Any]) -> None:
    assert "trains on sentence=a, sentence 2=b, sentence 3=c" in run("check", "triplets.csv", "--all").stdout


def test_check_warns_of_a_column_that_is_metadata(run: Callable[..., Any]) -> None:
    rows = "".join(
        f"how is thing {'ab'[i % 2]} done {i}?,open page {i},{'mail' if i % 3 else 'wiki'}\n"
        for i in range(30)
    )
    Path("faq.csv").write_text(f"question,answer,source\n{rows}")
    result = run("check", "faq.csv")
    output = " ".join(result.output.split())
    assert output.count("Column 'source' of") == 1  # not once more for each loss
    assert output.count("Column 'source' of faq.csv has 2 different values in 30 rows ('wiki', 'mail')") == 1
    assert "leave it out: name the others with `--columns`." in output
    assert "Column 'answer'" not in output


@pytest.mark.parametrize(
    ("header", "row", "first"),
    [
        ("a,b", "x {i},y {i}", ["MultipleNegativesRankingLoss"]),
        ("a,b,label", "x {i},y {i},{bit}", ["OnlineContrastiveLoss", "CoSENTLoss"]),
        ("a,b,score", "x {i},y {i},0.{i}", ["CoSENTLoss", "CosineSimilarityLoss"]),
        ("a,b,label", "x {i},y {i},{third}", ["SoftmaxLoss", "CoSENTLoss"]),
        ("text,label", "x {i},{third}", ["BatchAllTripletLoss"]),
    ],
)
def test_check_names_one_or_two_losses_to_start_with_and_why(
    run: Callable[..., Any], header: str, row: str, first: list[str]
) -> None:
    lines = [row.format(i=i, bit=i % 2, third=i % 3) for i in range(30)]
    Path("data.csv").write_text("\n".join([header, *lines]))
    result = run("check", "data.csv")
    assert result.exit_code == 0, result.output
    shown = result.stdout.partition("start with\n")[2].splitlines()
    named = [line.split()[0] for line in shown if line.startswith("  ")]
    assert named[: len(first)] == first
    assert "batches of" in shown[0]
    assert "losses fit: `--all` lists them" in result.stdout
    assert "does not fit" not in result.stdout


def test_check_shows_how_many_rows_each_label_has(run: Callable[..., Any]) -> None:
    Path("data.csv").write_text("a,b,label\n" + "".join(f"x {i},y {i},{int(i > 9)}\n" for i in range(40)))
    lines = [line.split() for line in run("check", "data.csv").stdout.splitlines()]
    assert ["label", "0", "10", "#" * 10] in lines
    assert ["label", "1", "30", "#" * 30] in lines


def test_check_finds_what_a_model_would_cut_and_what_is_in_both_tables(
    run: Callable[..., Any], model_folder: str
) -> None:
    rows = [f"{'word ' * 200}{i},answer {i}" for i in range(40)]
    Path("train.csv").write_text("\n".join(["a,b", *rows]))
    Path("dev.csv").write_text("\n".join(["a,b", *rows[:20], *(f"new {i},{i}!" for i in range(20))]))
    output = run("check", "train.csv", "--eval", "dev.csv", "--model", model_folder).stdout
    assert "100% of 40 texts in column 'a' of train.csv are longer than the 64 tokens" in output
    assert "50.0% of the rows of the evaluation data 'dev.csv' are training data as well" in output


def test_check_names_a_cell_that_is_no_text(refused: Callable[..., str]) -> None:
    Path("holes.jsonl").write_text('{"a": "x", "b": "y"}\n{"a": "x", "b": null}\n')
    message = refused("check", "holes.jsonl")
    assert "Column 'b' of holes.jsonl" in message
    assert "row 1" in message


def test_evaluate_warns_of_a_column_that_is_metadata(run: Callable[..., Any], model_folder: str) -> None:
    rows = "".join(
        f"{a},{b},{'wiki' if i % 3 else 'mail'}\n"
        for i, (a, b) in enumerate(zip(sentences(30), sentences(30, 1), strict=True))
    )
    Path("faq.csv").write_text(f"question,answer,source\n{rows}")
    result = run("evaluate", model_folder, "--data", "faq.csv")
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert output.count("Column 'source' of faq.csv has 2 different values in 30 rows ('mail', 'wiki')") == 1
    assert "leave it out: name the others with `--columns`." in output
    result = run("evaluate", model_folder, "--data", "faq.csv", "--columns", "question,answer")
    assert "source" not in result.output
