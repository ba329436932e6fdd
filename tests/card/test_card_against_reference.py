"""The card of a run here has the metadata and the sections of the reference's card of the same run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers as reference
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

import likewise

Cards = dict[str, Path]


@pytest.fixture(scope="module")
def cards(run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Cards:
    """The folders of the same run, saved by both libraries."""
    folders = {}
    for library in (likewise, reference):
        folder = tmp_path_factory.mktemp(library.__name__)
        trainer = run(folder / "run", library)
        folders[library.__name__] = folder / "final"
        trainer.model.save_pretrained(str(folder / "final"))
    return folders


def headings(card: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", card.read_text(encoding="utf8"), flags=re.DOTALL)
    return [line.strip() for line in text.splitlines() if re.match(r"#+ ", line)]


def test_metadata_and_sections_are_the_references(cards: Cards) -> None:
    ours, theirs = (cards[library.__name__] / "README.md" for library in (likewise, reference))
    found, expected = metadata_load(ours), metadata_load(theirs)
    assert found is not None
    assert expected is not None
    assert set(found) == set(expected)
    for key in ("language", "license", "tags", "pipeline_tag", "library_name"):
        assert found[key] == expected[key] or (key == "tags" and set(found[key]) == set(expected[key])), key
    assert set(found["metrics"]) == set(expected["metrics"])

    names, results = model_index_to_eval_results(found["model-index"])
    their_names, their_results = model_index_to_eval_results(expected["model-index"])
    assert names == their_names
    values = {
        (r.task_type, r.task_name, r.dataset_type, r.dataset_name, r.metric_type, r.metric_name): r
        for r in results
    }
    for result in their_results:
        place = (result.task_type, result.task_name, result.dataset_type, result.dataset_name)
        mine = values[(*place, result.metric_type, result.metric_name)]
        assert mine.metric_value == pytest.approx(result.metric_value, abs=2e-3)

    expected_titles = [title for title in headings(theirs) if not title.startswith("# For reference")]
    only_here = [title for title in headings(ours) if title not in expected_titles]
    assert only_here == ["### Training Hardware"]  # there only with CodeCarbon
    assert [title for title in headings(ours) if title not in only_here] == expected_titles


def test_statistics_samples_and_losses_are_the_references(cards: Cards) -> None:
    ours, theirs = (
        (cards[lib.__name__] / "README.md").read_text(encoding="utf8") for lib in (likewise, reference)
    )
    rows = [
        line for line in theirs.splitlines() if re.match(r"  \|( type | modality| details| <code>)", line)
    ]
    assert len(rows) > 15
    assert [line for line in rows if line not in ours] == []
    configs = re.findall(r"```json\n.*?```", theirs, flags=re.DOTALL)
    assert len(configs) == 4
    assert all(config in ours for config in configs)
    for entry in re.findall(r"#### [\w ]+\n```bibtex\n.*?```", theirs, flags=re.DOTALL):
        assert entry in ours


def test_arguments_are_told_as_in_the_reference(cards: Cards) -> None:
    ours, theirs = (
        (cards[lib.__name__] / "README.md").read_text(encoding="utf8") for lib in (likewise, reference)
    )

    names, known = (
        {f.name for f in fields(lib.SentenceTransformerTrainingArguments)} for lib in (likewise, reference)
    )
    only_here = names - known

    def arguments(text: str, title: str) -> dict[str, str]:
        part = text.partition(title)[2].partition("\n#")[0]
        return dict(re.findall(r"^- `(\w+)`: (.*)$", part, flags=re.MULTILINE))

    for title in ("#### Non-Default Hyperparameters", "#### All Hyperparameters"):
        found, expected = arguments(ours, title), arguments(theirs, title)
        found = {name: value for name, value in found.items() if name not in only_here}
        assert expected
        assert found == expected


def test_the_reference_reads_the_card_and_keeps_it(cards: Cards, tmp_path: Path) -> None:
    ours = cards["likewise"]
    model = reference.SentenceTransformer(str(ours), device="cpu")
    model.save_pretrained(str(tmp_path / "again"))
    assert (tmp_path / "again" / "README.md").read_text() == (ours / "README.md").read_text()


def test_huggingface_hub_reads_the_card(cards: Cards) -> None:
    card = ModelCard.load(cards["likewise"] / "README.md")
    assert card.data.library_name == "sentence-transformers"
    assert {result.metric_type for result in card.data.eval_results or ()} == {
        "cosine_accuracy",
        "pearson_cosine",
        "spearman_cosine",
    }


def test_data_classes_have_the_same_public_fields() -> None:
    import dataclasses

    ours, theirs = (
        {
            field.name: field
            for field in dataclasses.fields(library.SentenceTransformerModelCardData)
            if field.init
        }
        for library in (likewise, reference)
    )
    assert set(ours) == set(theirs)
    made, known = likewise.SentenceTransformerModelCardData(), reference.SentenceTransformerModelCardData()
    for name in ours:
        assert getattr(made, name) == getattr(known, name), name
