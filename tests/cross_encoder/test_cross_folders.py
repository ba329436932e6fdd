"""CrossEncoders in folders: every saved form is read, and what is written is read by the reference."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cross_common import ARCHITECTURES, pairs_of_texts, reranker_folder
from small import small_model

from likewise import CrossEncoder

PAIRS = pairs_of_texts(12)


def reference(path: Any, **kwargs: Any) -> Any:
    import sentence_transformers

    return sentence_transformers.CrossEncoder(str(path), device="cpu", **kwargs)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_saved_scores_the_same_here_and_in_the_reference(name: str, tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "a", name, num_labels=2), device="cpu", max_length=20)
    expected = model.predict(PAIRS)
    model.save(tmp_path / "b")
    np.testing.assert_array_equal(CrossEncoder(tmp_path / "b", device="cpu").predict(PAIRS), expected)
    theirs = reference(tmp_path / "b")
    np.testing.assert_allclose(theirs.predict(PAIRS), expected, rtol=1e-5, atol=5e-6)
    assert theirs.max_seq_length == 20
    theirs.save(str(tmp_path / "c"))
    again = CrossEncoder(tmp_path / "c", device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), expected, rtol=1e-5, atol=5e-6)
    assert again.max_length == 20


def test_weights_have_the_references_names(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path)
    assert set(CrossEncoder(folder, device="cpu").state_dict()) == set(reference(folder).state_dict())


def test_both_forms_are_written(tmp_path: Path) -> None:
    model = CrossEncoder(
        reranker_folder(tmp_path / "a"),
        device="cpu",
        activation_fn=torch.nn.Tanh(),
        prompts={"find": "find: "},
        default_prompt_name="find",
    )
    model.save_pretrained(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    settings = json.loads((tmp_path / "b" / "config_sentence_transformers.json").read_text())
    listing = json.loads((tmp_path / "b" / "modules.json").read_text())
    name = "torch.nn.modules.activation.Tanh"
    assert config["sentence_transformers"]["activation_fn"] == name
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert settings["activation_fn"] == name
    assert settings["model_type"] == "CrossEncoder"
    assert settings["prompts"] == {"find": "find: "}
    assert settings["default_prompt_name"] == "find"
    assert listing == [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": "sentence_transformers.base.modules.transformer.Transformer",
        }
    ]
    theirs, again = reference(tmp_path / "b"), CrossEncoder(tmp_path / "b", device="cpu")
    for loaded in (theirs, again):
        assert isinstance(loaded.activation_fn, torch.nn.Tanh)
        assert loaded.default_prompt_name == "find"
        np.testing.assert_allclose(loaded.predict(PAIRS), model.predict(PAIRS), rtol=1e-5, atol=5e-6)
    for file in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (tmp_path / "b" / file).unlink()  # what releases up to 5.3 do not know
    older = CrossEncoder(tmp_path / "b", device="cpu")
    assert isinstance(older.activation_fn, torch.nn.Tanh)
    assert older.prompts == {}


def test_a_stale_activation_is_not_carried_along(tmp_path: Path) -> None:
    folder = Path(reranker_folder(tmp_path / "a"))
    edit(folder / "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    model = CrossEncoder(folder, device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Identity)
    model.activation_fn = torch.nn.Tanh()
    model.save(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert "sbert_ce_default_activation_function" not in config
    assert config["sentence_transformers"]["activation_fn"].endswith("Tanh")


@pytest.mark.parametrize(
    ("config", "settings", "argument", "expected"),
    [
        ({}, None, None, torch.nn.Sigmoid),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, None, None, torch.nn.Tanh),
        ({"sentence_transformers": {"activation_fn": "torch.nn.ReLU", "version": "4.0"}}, None, None, torch.nn.ReLU),
        ({"sentence_transformers": {"activation_fn": "torch.nn.ReLU"}}, "torch.nn.Tanh", None, torch.nn.Tanh),
        ({"sentence_transformers": {"activation_fn": "torch.nn.ReLU"}}, "torch.nn.Tanh", torch.nn.Identity(), torch.nn.Identity),
        ({"sentence_transformers": {"activation_fn": "os.getcwd"}}, None, None, torch.nn.Sigmoid),
    ],
)  # fmt: skip
def test_the_nearest_activation_wins(
    config: Any, settings: str | None, argument: Any, expected: type, tmp_path: Path, caplog: Any
) -> None:
    folder = Path(reranker_folder(tmp_path / "a"))
    if settings is not None:
        CrossEncoder(folder, device="cpu").save(folder)
        edit(folder / "config_sentence_transformers.json", activation_fn=settings)
    edit(folder / "config.json", **config)
    assert isinstance(CrossEncoder(folder, device="cpu", activation_fn=argument).activation_fn, expected)
    assert ("not part of torch" in caplog.text) == ("getcwd" in str(config))


def test_an_activation_without_a_name_is_asked_for_again(tmp_path: Path, caplog: Any) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu", activation_fn=torch.tanh)
    model.save(tmp_path / "b")
    assert "Pass `activation_fn=` again" in caplog.text
    assert isinstance(CrossEncoder(tmp_path / "b", device="cpu").activation_fn, torch.nn.Sigmoid)


def test_an_encoder_gets_a_new_head_and_a_warning(tmp_path: Path, caplog: Any) -> None:
    folder = reranker_folder(tmp_path, task="")
    torch.manual_seed(3)
    model = CrossEncoder(folder, device="cpu")
    assert "starts at random" in caplog.text
    assert "classifier.weight" in caplog.text
    assert model.num_labels == 1
    torch.manual_seed(3)
    np.testing.assert_allclose(model.predict(PAIRS), reference(folder).predict(PAIRS), rtol=1e-5)
    assert CrossEncoder(folder, num_labels=4, device="cpu").predict(PAIRS).shape == (12, 4)


def test_an_embedding_model_gives_its_encoder_and_a_warning(tmp_path: Path, caplog: Any) -> None:
    small_model(tmp_path / "a").save(str(tmp_path / "b"))
    model = CrossEncoder(tmp_path / "b", device="cpu")
    assert "holds a SentenceTransformer, which does not score pairs" in caplog.text
    assert model.predict(PAIRS).shape == (12,)
    assert model.prompts == {}


def test_labels_of_another_number_are_refused_or_start_anew(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, num_labels=3)
    with pytest.raises(RuntimeError, match=r"`num_labels`.*ignore_mismatched_sizes"):
        CrossEncoder(folder, num_labels=2, device="cpu")
    model = CrossEncoder(folder, num_labels=2, device="cpu", model_kwargs={"ignore_mismatched_sizes": True})
    assert model.predict(PAIRS).shape == (12, 2)


def test_older_arguments_are_understood(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path, task="")
    model = CrossEncoder(folder, 2, 30, "cpu")
    assert (model.num_labels, model.max_length) == (2, 30)
    model = CrossEncoder(
        model_name=folder,
        num_labels=1,
        max_length=20,
        device="cpu",
        automodel_args={"attn_implementation": "eager"},
        tokenizer_args={"truncation_side": "left"},
        default_activation_function=torch.nn.Identity(),
        classifier_dropout=0.3,
    )
    assert model.config.classifier_dropout == 0.3
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.truncation_side == "left"
    assert isinstance(model.default_activation_function, torch.nn.Identity)
    with pytest.raises(TypeError, match="no argument `num_label`"):
        CrossEncoder(folder, num_label=3)
    with pytest.raises(TypeError, match="both `tokenizer_args` and `processor_kwargs`"):
        CrossEncoder(folder, tokenizer_args={}, processor_kwargs={"truncation_side": "left"})


def test_lengths_come_from_tokenizer_and_model(tmp_path: Path) -> None:
    folder = reranker_folder(tmp_path / "a", max_position_embeddings=50)
    assert CrossEncoder(folder, device="cpu").max_length == 50
    assert CrossEncoder(reranker_folder(tmp_path / "b"), device="cpu").max_length == 64
    roberta = reranker_folder(tmp_path / "c", "roberta", max_position_embeddings=40)
    assert CrossEncoder(roberta, device="cpu").max_length == 38
    model = CrossEncoder(folder, device="cpu")
    model.max_length = 10
    assert model.max_seq_length == model.tokenizer.model_max_length == 10
    assert len(model.preprocess([("the cat " * 20, "a dog")])["input_ids"][0]) == 10


def test_the_hubs_bare_names_are_cross_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="cross-encoder/no-such-reranker"):
        CrossEncoder("no-such-reranker", local_files_only=True)


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("modules.json", "[{]", ValueError, "not valid JSON"),
        ("modules.json", "[]", ValueError, "should list the model's modules"),
        ("modules.json", '[{"type": "evil.Module", "path": ""}]', ValueError, "trust_remote_code"),
        (
            "modules.json",
            '[{"type": "sentence_transformers.models.Transformer", "path": "../x"}]',
            ValueError,
            "outside of the model's folder",
        ),
        (
            "sentence_bert_config.json",
            '{"transformer_task": "fill-mask"}',
            ValueError,
            "`transformer_task` must be",
        ),
        (
            "sentence_bert_config.json",
            '{"transformer_task": "text-generation", "modality_config": {"image": {}}}',
            ValueError,
            "kinds image",
        ),
        (
            "config_sentence_transformers.json",
            '{"model_type": "CrossEncoder", "prompts": 3}',
            ValueError,
            "`prompts` in .* should be an object of texts",
        ),
        ("model.safetensors", "nothing", ValueError, "cannot be read"),
    ],
)
def test_damaged_folders_are_refused_in_a_sentence(
    file: str, content: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu").save(tmp_path / "b")
    (tmp_path / "b" / file).write_text(content)
    with pytest.raises(error, match=message):
        CrossEncoder(tmp_path / "b", device="cpu")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="could score pairs"):
        CrossEncoder(tmp_path)
    with pytest.raises(ValueError, match="`model_name_or_path`, or `modules`"):
        CrossEncoder()
    with pytest.raises(ValueError, match="`num_labels` must be a whole number of at least 1, but is 0"):
        CrossEncoder(reranker_folder(tmp_path / "a"), num_labels=0)


def test_the_card_it_came_with_is_kept(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    folder = Path(reranker_folder(tmp_path / "a"))
    (folder / "README.md").write_text("# A reranker\n")
    model = CrossEncoder(folder, device="cpu")
    model.save(tmp_path / "b")
    assert (tmp_path / "b" / "README.md").read_text() == "# A reranker\n"
    model.save(tmp_path / "c", create_model_card=False)
    assert not (tmp_path / "c" / "README.md").exists()
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.b", r"modules\.json names a module 'a\.b'.*no dot"), ("0", r"modules\.json names two modules '0'")],
)
def test_names_by_which_no_model_can_hold_its_modules_are_refused(
    name: str, said: str, tmp_path: Path
) -> None:
    CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu").save(tmp_path / "b")
    path = tmp_path / "b" / "modules.json"
    first = json.loads(path.read_text())[0]
    path.write_text(json.dumps([first | {"name": given} for given in ("0", name)]))
    with pytest.raises(ValueError, match=said):
        CrossEncoder(tmp_path / "b", device="cpu")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT reads it
def test_the_transformers_model_can_be_replaced_by_its_older_name(tmp_path: Path) -> None:
    import peft

    model = CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu")
    other = CrossEncoder(reranker_folder(tmp_path / "b", seed=1), device="cpu")
    before = model.predict(PAIRS)
    wrapped = peft.get_peft_model(
        model[0].auto_model, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    )
    model[0].auto_model = wrapped
    assert model[0].model is model.model is wrapped
    np.testing.assert_allclose(model.predict(PAIRS), before, rtol=1e-5, atol=5e-6)
    model[0].auto_model = other[0].model
    np.testing.assert_allclose(model.predict(PAIRS), other.predict(PAIRS), rtol=1e-5, atol=5e-6)


def test_a_folders_settings_of_texts_are_followed_or_refused(tmp_path: Path) -> None:
    CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu").save(tmp_path / "b")
    settings = tmp_path / "b" / "sentence_bert_config.json"
    upper = [(first.upper(), second.title()) for first, second in PAIRS]
    expected = CrossEncoder(tmp_path / "b", device="cpu").predict(PAIRS)
    edit(settings, do_lower_case=True, unpad_inputs=False)
    model = CrossEncoder(tmp_path / "b", device="cpu")
    model.save(tmp_path / "c")
    for loaded in (model, CrossEncoder(tmp_path / "c", device="cpu")):
        loaded.tokenizer = loaded.tokenizer
        np.testing.assert_allclose(loaded.predict(upper), expected, rtol=1e-5, atol=5e-6)
        assert not loaded[0].runner.packs()
    edit(settings, processing_kwargs={"text": {"max_length": 5}})
    with pytest.raises(
        ValueError, match=r"`processing_kwargs` has text .* which a CrossEncoder does not take"
    ):
        CrossEncoder(tmp_path / "b", device="cpu")
    other = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    edit(settings, processing_kwargs=None, modality_config=other)
    with pytest.raises(ValueError, match=r"'pooler_output'.*Correct `method_output_name`"):
        CrossEncoder(tmp_path / "b", device="cpu")
