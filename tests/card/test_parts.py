"""The parts of a card: statistics, samples, examples, code, the log, the environment, the data's own rules."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from card_common import scored_pairs, triplets
from datasets import Dataset, IterableDataset
from hypothesis import given
from hypothesis import strategies as st

from likewise import SentenceTransformer, SentenceTransformerModelCardData, losses
from likewise.card import data_sets, environment, examples, markdown, training_log
from likewise.card.body import body
from likewise.card.results import result_of, sections
from likewise.evaluation import InformationRetrievalEvaluator, TripletEvaluator
from likewise.report.facts import duration


@pytest.fixture(scope="module")
def model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


# Data sets


def test_texts_are_counted_in_tokens_as_the_model_cuts_them(model: SentenceTransformer) -> None:
    found = data_sets.statistics(["cat", "a cat", "cat " * 100], model)
    assert found["data"] == {"min": "3 tokens", "mean": "23.67 tokens", "max": "64 tokens"}
    assert (found["dtype"], found["modality"]) == ("string", "text")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0.5, 1.0, 0.0], "float", {"min": "0.0", "mean": "0.5", "max": "1.0"}),
        ([0, 1, 1, 2], "int", {"0": "~25.00%", "1": "~50.00%", "2": "~25.00%"}),
        ([1, 1], "int", {"1": "100.00%"}),
        ([True, False], "bool", {"False": "~50.00%", "True": "~50.00%"}),
        ([[1, 2], [3, 4]], "list", {"size": "2 elements"}),
        ([[1], [3, 4]], "list", {"min": "1 elements", "mean": "1.5 elements", "max": "2 elements"}),
        ([None], "NoneType", {}),
    ],
)
def test_other_values_are_told_by_shares_or_spread(
    model: SentenceTransformer, values: list[Any], dtype: str, expected: dict[str, str]
) -> None:
    found = data_sets.statistics(values, model)
    assert (found["dtype"], found["data"]) == (dtype, expected)


def test_many_classes_are_told_by_their_spread(model: SentenceTransformer) -> None:
    assert data_sets.statistics(list(range(77)), model)["data"]["classes"] == "more than 50"


def test_texts_of_a_model_without_tokens_are_counted_in_characters() -> None:
    wordless: Any = SimpleNamespace(takes_tokens=False, _first_module=lambda: None)
    assert data_sets.statistics(["ab", "abcd"], wordless)["data"]["mean"] == "3.0 characters"


def test_a_stream_is_told_by_its_columns_and_not_read(model: SentenceTransformer) -> None:
    def rows() -> Any:
        raise AssertionError("the stream was read")
        yield

    stream = IterableDataset.from_generator(rows, features=triplets(2).features)
    found = data_sets.describe(stream, losses.TripletLoss(model), model)
    assert found["columns"] == ["anchor", "positive", "negative"]
    assert "size" not in found


def test_a_data_set_from_the_hub_is_linked_with_its_commit(model: SentenceTransformer) -> None:
    data = triplets(3)
    data.info.dataset_name = "all-nli"
    data.info.download_checksums = {f"hf://datasets/some/all-nli@{'a' * 40}/train.parquet": {}}
    assert data_sets.origin(data) == {"name": "all-nli", "id": "some/all-nli", "revision": "a" * 40}
    assert data_sets.origin(data, "mine")["name"] == "mine"


def test_a_file_gives_a_data_set_no_name() -> None:
    data = triplets(3)
    data.info.dataset_name = "parquet"
    assert data_sets.origin(data) == {}


def test_a_foreign_loss_is_named_in_full_and_models_in_settings_by_their_class(
    model: SentenceTransformer,
) -> None:
    class Mine(losses.CoSENTLoss):
        def get_config_dict(self) -> dict[str, Any]:
            return {"guide": model, "inner": losses.TripletLoss(model)}

    found = data_sets.describe_loss(Mine(model))
    assert found["fullname"].endswith(
        "test_parts.test_a_foreign_loss_is_named_in_full_and_models_in_settings_by_their_class.<locals>.Mine"
    )
    assert found["config"]["guide"] == "SentenceTransformer"
    assert found["config"]["inner"].startswith("TripletLoss(distance_metric=")


# Examples and code


def test_examples_come_from_each_data_set_in_turn_and_streams_give_none() -> None:
    stream = IterableDataset.from_generator(iter, gen_kwargs={"object": [{"text": "a"}]})
    data: dict[str, Any] = {"a": triplets(30), "b": scored_pairs(30), "c": stream}
    found = examples.widget_examples(data)
    assert found == examples.widget_examples(data)
    assert len(found) == 5
    anchors, firsts = set(data["a"]["anchor"]), set(data["b"]["sentence1"])
    assert [example["source_sentence"] in anchors for example in found[::2]] == [True] * 3
    assert [example["source_sentence"] in firsts for example in found[1::2]] == [True] * 2
    for example in found:
        texts = [example["source_sentence"], *example["sentences"]]
        assert len(set(texts)) == 4


def test_too_little_data_gives_no_example() -> None:
    assert examples.widget_examples({"": Dataset.from_dict({"text": ["a", "", " "]})}) == []


@pytest.mark.parametrize("is_search", [False, True])
def test_the_code_of_a_card_runs_and_prints_what_it_says(
    folder: str, tmp_path: Path, is_search: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SentenceTransformer(folder, device="cpu", prompts={"query": "find "} if is_search else None)
    model.model_card_data.set_widget_examples(triplets(20))
    model.save_pretrained(str(tmp_path / "model"))
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]
    assert ("encode_query" in code) == is_search
    script = code.replace("sentence_transformers_model_id", str(tmp_path / "model"))
    exec(script, {})
    printed = capsys.readouterr().out
    told = [line.removeprefix("# ") for line in code.splitlines() if line.startswith("# ")]

    def numbers(lines: list[str]) -> list[float]:
        return [float(number) for number in re.findall(r"-?\d+\.\d+|\d+", "\n".join(lines))]

    assert len(told) >= 2
    assert numbers(told) == pytest.approx(numbers(printed.splitlines()), abs=2e-4)


def test_a_model_that_cannot_embed_has_a_card_without_similarities(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out of memory")

    model = SentenceTransformer(folder, device="cpu")
    monkeypatch.setattr(model, "encode", fails)
    with caplog.at_level(logging.WARNING, logger="likewise"):
        model.save_pretrained(str(tmp_path))
    assert "The model card shows no similarities" in caplog.text
    assert "# torch.Size([3, 3])" in (tmp_path / "README.md").read_text()


def test_without_examples_the_model_is_not_run(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SentenceTransformerModelCardData(generate_widget_examples=False)
    model = SentenceTransformer(folder, device="cpu", model_card_data=card)
    monkeypatch.setattr(model, "encode", None)
    model.save_pretrained(str(tmp_path))
    assert "# torch.Size([3, 3])" in (tmp_path / "README.md").read_text()


def test_a_search_evaluator_makes_it_a_model_for_search(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData()
    evaluator = InformationRetrievalEvaluator({"q": "cat"}, {"d": "a cat"}, {"q": {"d"}})
    data.set_evaluation_metrics(evaluator, {"cosine_ndcg@10": 1.0})
    assert data.ir_model


# Tables


@given(st.text(alphabet="ab|*_`<>&[]~$\\\n", max_size=20))
def test_no_text_breaks_out_of_its_cell(text: str) -> None:
    shown = markdown.code(text)
    inner = shown.removeprefix("<code>").removesuffix("</code>").replace("<br>", "\n")
    assert not set(inner) & set("|*_`<>[]~$\\")
    assert "\n" not in shown
    from html import unescape

    assert unescape(inner) == text


def test_long_samples_are_cut() -> None:
    assert len(markdown.code("a" * 5000)) < 1100
    assert markdown.code(list(range(9))) == "<code>&#91;0, 1, 2, 3, 4, ...&#93;</code>"


def test_a_model_that_was_only_measured_has_results_and_no_training_log(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData()
    evaluator = TripletEvaluator(["a"], ["b"], ["c"], name="dev")
    evaluator.prepare(model)
    data.set_evaluation_metrics(evaluator, {"dev_cosine_accuracy": 0.25}, -1, -1)
    text = body(model, data, None)
    assert "### Metrics" in text
    assert "### Training Logs" not in text
    data.add_tags("generated_from_trainer")
    assert "### Training Logs" in body(model, data, None)


def test_evaluators_of_a_kind_share_a_table_with_a_column_each(model: SentenceTransformer) -> None:
    results = []
    for name in ("dev", "test"):
        evaluator = TripletEvaluator(["a"], ["b"], ["c"], name=name)
        evaluator.prepare(model)
        results.append(result_of(evaluator, {f"{name}_cosine_accuracy": 0.25}))
    text = "\n".join(sections(results))
    assert "* Datasets: `dev` and `test`" in text
    assert "| Metric              | dev        | test       |" in text
    assert "| **cosine_accuracy** | **0.2500** | **0.2500** |" in text


def test_a_tables_header_shows_names_as_they_are() -> None:
    text = markdown.table(["<img src=x onerror=alert(1)> | `b`"], [["1"]])
    assert "<" not in text
    assert text.splitlines()[0].count("|") == 2


# The log


def rows(number: int, **more: float) -> list[dict[str, Any]]:
    return [{"Epoch": i / 10, "Step": i, "Training Loss": 1 / (i + 1), **more} for i in range(1, number + 1)]


def test_a_long_log_is_folded_and_thinned_but_keeps_what_was_measured() -> None:
    log = rows(5000)
    for row in log[99::100]:
        row["score"] = 0.5
    log[1234]["Training Loss"] = 0.25
    shown = training_log.thinned(log, best_step=1235)
    assert len(shown) <= 2 * training_log.MAX_ROWS
    assert sum("score" in row for row in shown) == 50
    assert any(row["Step"] == 1235 for row in shown)
    text = "\n".join(training_log.section(log, 1235, None))
    assert "<details><summary>Click to expand</summary>" in text
    assert f"* {len(shown)} of 5,000 rows are shown." in text
    assert "<details>" not in "\n".join(training_log.section(rows(100), None, None))


def test_columns_stand_in_the_references_order() -> None:
    log = [{"Step": 1, "Epoch": 0.1, "acc": 1.0, "b loss": 1.0, "Validation Loss": 1.0, "Training Loss": 1.0}]
    assert training_log.columns(log) == ["Epoch", "Step", "Training Loss", "Validation Loss", "b loss", "acc"]


def test_one_evaluation_loss_is_the_validation_loss_and_several_keep_their_names() -> None:
    assert training_log.losses({"eval_loss": 1.0, "eval_runtime": 2.0}) == {"Validation Loss": 1.0}
    assert training_log.losses({"eval_a_b_loss": 1.0}) == {"a b loss": 1.0}


# The environment


def test_versions_and_hardware_are_named() -> None:
    found = environment.versions()
    assert list(found) == [
        "Python",
        "Likewise",
        "Transformers",
        "PyTorch",
        "Accelerate",
        "Datasets",
        "Tokenizers",
    ]
    assert environment.hardware()["CPU Model"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5.0 seconds"), (90, "1.5 minutes"), (5400, "1.5 hours"), (129_600, "1.5 days")]
)
def test_times_are_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("is_over", [False, True], ids=["under way", "over"])
def test_what_codecarbon_measured_is_told(model: SentenceTransformer, is_over: bool) -> None:
    measured = SimpleNamespace(
        emissions=0.002,
        energy_consumed=0.01,
        on_cloud="N",
        cpu_model="a CPU",
        ram_total_size=16.0,
        gpu_model=None,
    )
    tracker = SimpleNamespace(_start_time=1.0, _prepare_emissions_data=lambda: measured)
    if is_over:  # codecarbon 3 forgets its start when it is stopped
        tracker = SimpleNamespace(_start_time=None, final_emissions_data=measured)
    data = SentenceTransformerModelCardData()
    data.code_carbon_callback = SimpleNamespace(tracker=tracker)
    data.start_run([])
    data.end_run()
    found = data.to_dict()["co2_eq_emissions"]
    assert found == {
        "emissions": 2.0,
        "energy_consumed": 0.01,
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": False,
        "cpu_model": "a CPU",
        "ram_total_size": 16.0,
    }
    text = body(model, data, None)
    assert "### Environmental Impact" in text
    assert "- **Carbon Emitted**: 0.002 kg of CO2" in text
    assert "- **RAM Size**: 16.00 GB" in text
    assert environment.emissions(SimpleNamespace(tracker=None)) is None
    assert environment.emissions(SimpleNamespace(tracker=SimpleNamespace(_start_time=None))) is None


# The data's own rules


def test_a_model_from_the_hub_is_known_by_name_and_commit(tmp_path: Path) -> None:
    data = SentenceTransformerModelCardData()
    cached = tmp_path / "models--some--base-model" / "snapshots" / ("b" * 40)
    cached.mkdir(parents=True)
    assert data.set_base_model(str(cached))
    assert (data.base_model, data.base_model_revision) == ("some/base-model", "b" * 40)
    for revision, expected in (("main", "b" * 40), ("v1.0", "v1.0")):
        assert data.set_base_model(str(cached), revision)
        assert data.base_model_revision == expected
    assert data.title() == "SentenceTransformer based on some/base-model"
    assert data.set_base_model("some/other", "main")
    assert (data.base_model, data.base_model_revision) == ("some/other", "main")


def test_a_folder_of_ones_own_is_no_base_model(tmp_path: Path) -> None:
    data = SentenceTransformerModelCardData()
    assert not data.set_base_model(str(tmp_path))
    assert data.base_model is None


def test_a_model_id_without_an_owner_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert SentenceTransformerModelCardData(model_id="mine").model_id is None
    assert "'owner/name', but is 'mine'" in caplog.text
    assert SentenceTransformerModelCardData(model_id="me/mine").model_id == "me/mine"


def test_language_license_name_and_tags_can_be_set_later(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData(language="en", model_name="Mine")
    data.set_language(["de", "fr"])
    data.set_license("mit")
    data.add_tags("new")
    data.add_tags(["new", "newer"])
    found = data.to_dict()
    assert (found["language"], found["license"]) == (["de", "fr"], "mit")
    assert found["tags"][-2:] == ["new", "newer"]
    text = body(model, data, None)
    assert text.startswith("# Mine\n")
    assert "- **Languages:** de, fr" in text


def test_what_is_known_of_data_sets_is_shown_and_linked(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData(train_datasets=[{"id": "some/nli"}, {"name": "STSb"}])
    text = body(model, data, None)
    link = "[some/nli](https://huggingface.co/datasets/some/nli)"
    assert f"trained on the {link} and STSb datasets." in text
    assert f"- **Training Datasets:**\n    - {link}\n    - STSb" in text
    assert data.to_dict()["datasets"] == ["some/nli"]


def test_many_data_sets_are_folded(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData(train_datasets=[{"name": f"set-{i}"} for i in range(50)])
    text = body(model, data, None)
    assert "trained on 50 datasets." in text
    assert text.count("<details><summary>set-") == 50


def test_losses_of_one_paper_share_its_entry(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData()
    ranking = losses.MultipleNegativesRankingLoss(model)
    data.set_losses([losses.MatryoshkaLoss(model, ranking, [32, 16]), ranking])
    assert [tag for tag in data.tags if tag.startswith("loss:")] == [
        "loss:MatryoshkaLoss",
        "loss:MultipleNegativesRankingLoss",
    ]
    assert list(data.citations) == ["Sentence Transformers", "MatryoshkaLoss", "MultipleNegativesRankingLoss"]
    data.set_losses([losses.SoftmaxLoss(model, 32, 3), losses.TripletLoss(model)])
    assert list(data.citations) == ["Sentence Transformers and SoftmaxLoss", "TripletLoss"]
    assert body(model, data, None).count("reimers-2019-sentence-bert") == 1


def test_the_data_of_a_card_can_be_sent_to_another_process(model: SentenceTransformer) -> None:
    data = SentenceTransformerModelCardData(language="en")
    data.register_model(model)
    data.set_evaluation_metrics(TripletEvaluator(["a"], ["b"], ["c"]), {"cosine_accuracy": 0.5})
    again = pickle.loads(pickle.dumps(data))
    assert again.language == ["en"]
    assert again.to_dict() == data.to_dict()
    assert again.model is None
    assert data.model is model
