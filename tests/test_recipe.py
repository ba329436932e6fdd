"""Recipes are read as written, and whatever is wrong with one is said before anything is loaded."""

from __future__ import annotations

import inspect
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from small import sentences, small_model_folder

from likewise.families import FAMILIES
from likewise.losses import CoSENTLoss, MultipleNegativesRankingLoss
from likewise.recipe import parse_recipe, read_recipe
from likewise.recipes.catalogue import FOLDER
from likewise.similarity import dot_score

RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """A good recipe, as YAML gives it."""
    texts = sentences(6)
    rows = [f"{a},{b},{score}" for a, b, score in zip(texts[:3], texts[3:], (1, 0.5, 0), strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["a,b,score", *rows]) + "\n")
    pairs = {"source": str(tmp_path / "pairs.csv"), "columns": ["a", "b", "score"]}
    return {
        "model": small_model_folder(tmp_path / "model"),
        "train": {"pairs": {**pairs, "loss": "CoSENTLoss"}},
        "test": {"pairs": {**pairs, "evaluator": "EmbeddingSimilarityEvaluator"}},
        "training": {"output_dir": str(tmp_path / "out"), "num_train_epochs": 1, "learning_rate": 2e-5},
    }


def test_no_loss_that_a_recipe_may_name_is_abstract() -> None:
    for family in FAMILIES.values():
        assert family.loss_classes()
        assert not [name for name, kind in family.loss_classes().items() if inspect.isabstract(kind)]


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The recipe with another value at `train.pairs.loss`, say; `...` removes the key."""
    content = deepcopy(content)
    *sections, key = path.split(".")
    inner = content
    for section in sections:
        inner = inner.setdefault(section, {})
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    return content


def test_a_good_recipe_gives_arguments_data_losses_and_evaluators(content: dict[str, Any]) -> None:
    recipe = parse_recipe(changed(content, "train.pairs.loss", {"name": "CoSENTLoss", "scale": 10}))
    assert recipe.arguments().learning_rate == 2e-5
    assert recipe.arguments(logging_steps=3, num_train_epochs=9).logging_steps == 3
    assert recipe.arguments(num_train_epochs=9).num_train_epochs == 1
    model = recipe.model.load()
    loss = recipe.losses(model)["pairs"]
    assert isinstance(loss, CoSENTLoss)
    assert loss.scale == 10
    assert recipe.train["pairs"].source.load().column_names == ["a", "b", "score"]
    evaluator = recipe.test["pairs"].load()
    assert evaluator.name == "pairs"
    assert evaluator.scores == [1, 0.5, 0]


def test_model_settings_are_passed_on(content: dict[str, Any]) -> None:
    settings = {"name": content["model"], "max_seq_length": 8, "truncate_dim": 4, "prompts": {"query": "q: "}}
    model = parse_recipe(changed(content, "model", settings)).model.load()
    assert (model.max_seq_length, model.truncate_dim, model.prompts["query"]) == (8, 4, "q: ")


def test_data_sets_with_the_same_loss_share_it(content: dict[str, Any]) -> None:
    pairs = content["train"]["pairs"]
    more = {"a": pairs, "b": {**pairs}, "c": {**pairs, "loss": {"name": "CoSENTLoss", "scale": 5}}}
    recipe = parse_recipe(changed(content, "train", more))
    losses = recipe.losses(recipe.model.load())
    assert losses["a"] is losses["b"]
    assert losses["a"] is not losses["c"]


def test_functions_and_wrapped_losses_are_given_by_name(content: dict[str, Any]) -> None:
    loss = {
        "name": "MatryoshkaLoss",
        "loss": {"name": "MultipleNegativesRankingLoss", "similarity_fct": "dot_score"},
        "matryoshka_dims": [32, 16],
    }
    recipe = parse_recipe(changed(content, "train.pairs.loss", loss))
    built: Any = recipe.losses(recipe.model.load())["pairs"]
    assert isinstance(built.loss, MultipleNegativesRankingLoss)
    assert built.loss.similarity_fct is dot_score


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("trian", {}, "`the recipe` knows no `trian`. Did you mean `train`?"),
        ("model", ..., "`the recipe` needs `model`."),
        ("model", 7, "`model` must be a text or a mapping (key: value), but is 7."),
        ("model", {"nam": "x"}, "`model` knows no `nam`. Did you mean `name`?"),
        ("train", {}, "`train` is empty. Add a data set"),
        ("train.pairs", None, "`train.pairs` must be a mapping (key: value), but is None."),
        ("train.pairs.loss", ..., "`train.pairs` needs `loss`."),
        (
            "train.pairs.loss",
            "CosentLoss",
            "`train.pairs.loss` knows no `CosentLoss`. Did you mean `CoSENTLoss`?",
        ),
        ("train.pairs.loss", {"scale": 2}, "`train.pairs.loss` needs the loss's name"),
        ("train.pairs.loss", {"name": "CoSENTLoss", "scal": 2}, "knows no `scal`. Did you mean `scale`?"),
        (
            "train.pairs.loss",
            {"name": "CoSENTLoss", "scale": "big"},
            "`train.pairs.loss.scale` must be a number, but is 'big'.",
        ),
        (
            "train.pairs.loss",
            {"name": "CoSENTLoss", "similarity_fct": "pairwise_cosine"},
            "`train.pairs.loss.similarity_fct` knows no `pairwise_cosine`. Did you mean `pairwise_cos_sim`?",
        ),
        (
            "train.pairs.loss",
            {"name": "MatryoshkaLoss"},
            "`train.pairs.loss` needs `loss`: MatryoshkaLoss has no default for it.",
        ),
        ("train.pairs.max_rows", True, "`train.pairs.max_rows` must be a whole number, but is True."),
        ("train.pairs.max_rows", 0, "`max_rows` must be a whole number of at least 1, but is 0."),
        ("train.pairs.columns", "a", "`train.pairs.columns` must be a list or a mapping"),
        (
            "train.pairs.columns",
            ["a", False],
            "`train.pairs.columns` must name columns, but has False. Put it in quotes",
        ),
        ("test.pairs.evaluator", "Similarity", "`test.pairs.evaluator` knows no `Similarity`. Did you mean"),
        ("training.learning_rat", 1e-5, "`training` knows no `learning_rat`. Did you mean `learning_rate`?"),
        ("training.learning_rate", "fast", "`training.learning_rate` must be a number, but is 'fast'."),
        ("training.num_train_epochs", True, "`training.num_train_epochs` must be a number, but is True."),
        ("training.max_steps", 1.5, "`training.max_steps` must be a whole number, but is 1.5."),
        (
            "training.eval_strategy",
            False,
            "must be a text, but is False. Put quotes around it if it is meant as a text.",
        ),
        ("training.bf16", "yes", "`training.bf16` must be true or false, but is 'yes'."),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_right_thing(
    content: dict[str, Any], path: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_recipe(changed(content, path, value))


def test_files_that_are_not_there_are_named(content: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file nowhere\.csv"):
        parse_recipe(changed(content, "train.pairs.source", "nowhere.csv"))
    folder = {"evaluator": "InformationRetrievalEvaluator", "source": "nowhere"}
    with pytest.raises(FileNotFoundError, match=r"There is no folder nowhere\. .*BEIR"):
        parse_recipe(changed(content, "test.search", folder))
    with pytest.raises(FileNotFoundError, match=r"There is no recipe nowhere\.yaml"):
        read_recipe(Path("nowhere.yaml"))


def test_an_evaluator_needs_as_many_columns_as_it_takes(content: dict[str, Any]) -> None:
    recipe = parse_recipe(changed(content, "test.pairs.columns", ["a", "b"]))
    with pytest.raises(
        ValueError, match=r"takes 3 columns \(sentences1, sentences2, scores\), but .* has 2: a, b"
    ):
        recipe.test["pairs"].load()


def test_a_folder_in_beir_layout_is_an_evaluator(content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "search"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "the cat"}\n{"_id": "e", "text": "the dog"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "the cat"}\n')
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    recipe = parse_recipe(
        changed(content, "test.search", {"evaluator": "InformationRetrievalEvaluator", "source": str(folder)})
    )
    metrics = recipe.test["search"].load()(recipe.model.load())
    assert metrics["search_cosine_accuracy@1"] == 1


def test_yaml_numbers_mean_what_they_say_and_no_key_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m\ntrain: {a: {source: x/y, loss: CoSENTLoss}}\ntraining: {learning_rate: 2e-5}\n"
    )
    assert read_recipe(path).training["learning_rate"] == 2e-5
    path.write_text("model: m\nmodel: n\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml is not YAML: .*`model` comes twice"):
        read_recipe(path)
    path.write_text("model: [m\n")
    with pytest.raises(ValueError, match=r"recipe\.yaml is not YAML"):
        read_recipe(path)


def test_data_replaces_its_placeholder_or_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ntrain: {a: {source: '${data}/a.csv', loss: CoSENTLoss}}\n")
    (tmp_path / "a.csv").write_text("a,b,score\n")
    assert read_recipe(path, tmp_path).train["a"].source.source == f"{tmp_path}/a.csv"
    with pytest.raises(ValueError, match=r"reads \$\{data\}/a\.csv\. Say where that is with `--data DIR`"):
        read_recipe(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_project_are_right_but_for_their_data(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file /nowhere/"):
        read_recipe(path, Path("/nowhere"))


def test_there_are_recipes() -> None:
    assert {"answer_reranker", "nli_triplets", "sts_cosent"} <= {path.stem for path in RECIPES}


def test_without_data_a_recipe_reads_what_it_names_on_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m\ntrain: {a: {source: '${data}/a.csv', where: {x: 1}, loss: CoSENTLoss,"
        " hub: {source: me/rows, split: dev, max_rows: 9}}}\n"
    )
    (tmp_path / "a.csv").write_text("a,b,score\n")
    from_hub, from_file = (read_recipe(path, data).train["a"].source for data in (None, tmp_path))
    assert (from_hub.source, from_hub.split, from_hub.max_rows, from_hub.where) == ("me/rows", "dev", 9, {})
    assert (from_file.source, from_file.where) == (f"{tmp_path}/a.csv", {"x": 1})
    path.write_text("model: m\ntrain: {a: {source: '${data}/a.csv', loss: CoSENTLoss, hub: me/rows}}\n")
    with pytest.raises(ValueError, match="`hub` must be a mapping"):
        read_recipe(path)


def test_every_recipe_of_embeddings_can_read_from_the_hub() -> None:
    for path in RECIPES:
        if path.stem != "answer_reranker":  # not there in this form
            recipe = read_recipe(path)
            parts = [*recipe.train.values(), *recipe.dev.values(), *recipe.test.values()]
            assert all(part.source.file is None and "/" in part.source.source for part in parts)


def test_words_become_classes_in_the_order_that_is_given(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,kind\nx,y,no\ny,z,yes\nz,x,no\n")
    part = {"columns": ["a", "b", "kind"], "classes": {"kind": ["yes", "no"]}, "loss": "CoSENTLoss"}
    part["source"] = str(tmp_path / "pairs.csv")
    rows = parse_recipe(changed(content, "train.pairs", part)).train["pairs"].source.load()
    assert rows["kind"][:] == [1, 0, 1]
    part["classes"] = {"kind": ["no"]}
    source = parse_recipe(changed(content, "train.pairs", part)).train["pairs"].source
    with pytest.raises(
        ValueError, match=r"Row 1 of .* has 'yes' in `kind`, which is none of its `classes` \(no\)"
    ):
        source.load()


def test_a_column_can_be_wanted_twice(content: dict[str, Any]) -> None:
    columns = {"anchor": "a", "other": "b", "positive": "a"}
    rows = parse_recipe(changed(content, "train.pairs.columns", columns)).train["pairs"].source.load()
    assert rows.column_names == ["anchor", "other", "positive"]
    assert rows["anchor"][:] == rows["positive"][:] != rows["other"][:]


ATTACKS = {
    "an object": "model: !!python/object/apply:builtins.open [{mark}, w]",
    "an object in a list": "model: a\ntrain: {{pairs: [!!python/object/new:builtins.open [{mark}, w]]}}",
    "a name": "model: !!python/name:os.system\ntrain: {{}}",
    "a module": "model: !!python/module:antigravity\ntrain: {{}}",
    "a tag of its own": "model: !open {mark}\ntrain: {{}}",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_recipe_runs_no_code(tmp_path: Path, attack: str) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "recipe.yaml").write_text(ATTACKS[attack].format(mark=mark))
    with pytest.raises(
        ValueError, match=r"recipe\.yaml is not YAML: could not determine a constructor for the tag"
    ):
        read_recipe(tmp_path / "recipe.yaml")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("train.pairs.loss", "os.system", "knows no `os.system`"),
        ("train.pairs.loss", "__init__", "knows no `__init__`"),
        ("train.pairs.loss", {"name": "CoSENTLoss", "similarity_fct": "__import__"}, "knows no `__import__`"),
        ("train.pairs.loss", {"name": "CoSENTLoss", "model": "elsewhere"}, "knows no `model`"),
        ("test.pairs.evaluator", "SentenceEvaluator", "knows no `SentenceEvaluator`"),
        ("model", {"name": "a", "trust_remote_code": True}, "knows no `trust_remote_code`"),
        ("model", {"name": "a", "model_kwargs": {"weights_only": False}}, "knows no `model_kwargs`"),
    ],
)
def test_a_recipe_names_nothing_but_what_is_listed(
    content: dict[str, Any], path: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe(changed(content, path, value))
