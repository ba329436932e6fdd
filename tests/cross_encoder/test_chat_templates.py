"""Language models as rerankers, whose pairs are messages in a chat template: against the reference, folders both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cross_common import pairs_of_texts, reranker_folder

from likewise import CrossEncoder
from likewise.cross_encoder.modules import LogitScore, Transformer

PAIRS = [*pairs_of_texts(20), ("the cat", "a dog " * 20), ("the cat " * 20, "a dog")]
QUERY = "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}"
DOCUMENT = "{{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"
SYSTEM = "{% for m in messages %}{% if m.role == 'system' %}the {{ m.content }} {% endif %}{% endfor %}"
FLAT = SYSTEM + f"cat {QUERY} dog {DOCUMENT} river sun{{% if add_generation_prompt %}} snow{{% endif %}}"
PARTS = (
    "{% for m in messages %}{{ m.role }} {% for part in m.content %}{% if part.type == 'text' %}{{ part.text }} {% endif %}"
    "{% endfor %}{% endfor %}yes or no"
)
TEMPLATES = {"flat": FLAT, "structured": PARTS}
NOT_FOR_PAIRS = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"


def chat_folder(path: Path, template: str, name: str = "qwen3", task: str = "CausalLM") -> str:
    """A random decoder with the words "yes" and "no", and a chat template."""
    import transformers

    folder = reranker_folder(path, name, task=task, vocab_size=130)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no"])
    assert len(tokenizer) <= 130
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def reference(folder: str | Path, **options: Any) -> Any:
    import sentence_transformers

    return sentence_transformers.CrossEncoder(str(folder), device="cpu", **options)


def check_equal(model: CrossEncoder, theirs: Any, **options: Any) -> None:
    found, expected = model.predict(PAIRS, **options), theirs.predict(PAIRS, **options)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma"])
@pytest.mark.parametrize("form", TEMPLATES)
def test_scores_equal_the_references_and_folders_go_both_ways(name: str, form: str, tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "model", TEMPLATES[form], name)
    model, theirs = CrossEncoder(folder, device="cpu"), reference(folder)
    assert isinstance(model[1], LogitScore)
    first: Any = model[0]
    assert model.modalities == ["text", "message"]
    assert first.tokenization.chat.message_format == form
    assert first.get_config_dict() == theirs[0].get_config_dict()
    check_equal(model, theirs)
    check_equal(model, theirs, prompt="old river")
    model.prompts["find"], model.default_prompt_name = "tree", "find"
    model.save(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    assert again[0].tokenization.chat.message_format == form  # type: ignore[union-attr]
    np.testing.assert_allclose(again.predict(PAIRS), model.predict(PAIRS), rtol=1e-6)
    check_equal(again, reference(tmp_path / "saved"))
    theirs.save(str(tmp_path / "theirs"))
    check_equal(CrossEncoder(tmp_path / "theirs", device="cpu"), theirs)


@pytest.mark.parametrize("limit", [5, 12, 20])
def test_cut_pairs_keep_what_the_template_has_at_its_end(limit: int, tmp_path: Path) -> None:
    folder = chat_folder(tmp_path, FLAT)
    model, theirs = CrossEncoder(folder, max_length=limit, device="cpu"), reference(folder, max_length=limit)
    features, expected = model.preprocess(PAIRS, prompt="old"), theirs.preprocess(PAIRS, prompt="old")
    np.testing.assert_array_equal(features["input_ids"], expected["input_ids"])
    np.testing.assert_array_equal(features["attention_mask"], expected["attention_mask"])
    known = model.tokenizer.get_vocab()
    assert (features["input_ids"][:, -2:] == np.array([known["river"], known["sun"]])).all()
    if limit > 5:  # where something is left of the pair
        check_equal(model, theirs, prompt="old")


def test_cut_pairs_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = CrossEncoder(chat_folder(tmp_path, FLAT), max_length=20, device="cpu")
    model.predict([("the cat", "a dog"), *PAIRS[-2:]])
    assert "2 of the first 3 pairs are longer than 20 tokens" in caplog.text


def test_a_folders_arguments_of_the_template_are_followed(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "model", FLAT)
    plain = CrossEncoder(folder, max_length=12, device="cpu")
    plain.save(tmp_path / "saved")
    path = tmp_path / "saved" / "sentence_bert_config.json"
    settings = json.loads(path.read_text())
    settings["processing_kwargs"] = {
        "chat_template": {"add_generation_prompt": True, "restore_suffix": False}
    }
    path.write_text(json.dumps(settings))
    model, theirs = CrossEncoder(tmp_path / "saved", device="cpu"), reference(tmp_path / "saved")
    np.testing.assert_array_equal(model.preprocess(PAIRS)["input_ids"], theirs.preprocess(PAIRS)["input_ids"])
    check_equal(model, theirs)
    assert np.abs(model.predict(PAIRS) - plain.predict(PAIRS)).max() > 1e-3
    model.save(tmp_path / "again")
    check_equal(CrossEncoder(tmp_path / "again", device="cpu"), theirs)
    for wrong, said in (
        ({"chat_template": {"max_length": 3}}, "`max_length` cannot be set for a chat template"),
        ({"text": {"max_length": 3}}, "has text .* which a CrossEncoder does not take"),
    ):
        path.write_text(json.dumps(settings | {"processing_kwargs": wrong}))
        with pytest.raises(ValueError, match=said):
            CrossEncoder(tmp_path / "saved", device="cpu")
    settings["modality_config"].pop("message")
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="does not take without a chat template"):
        CrossEncoder(tmp_path / "saved", device="cpu")


def test_a_decoder_with_a_score_head_follows_a_template_that_shows_pairs(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "a", FLAT, task="SequenceClassification")
    model = CrossEncoder(folder, device="cpu")
    assert model.modalities == ["text", "message"]
    check_equal(model, reference(folder))
    other = CrossEncoder(
        chat_folder(tmp_path / "b", NOT_FOR_PAIRS, task="SequenceClassification"), device="cpu"
    )
    assert other.modalities == ["text"]
    (tmp_path / "b" / "chat_template.jinja").unlink()
    plain = CrossEncoder(tmp_path / "b", device="cpu")
    np.testing.assert_allclose(other.predict(PAIRS), plain.predict(PAIRS), rtol=1e-5)


def test_a_folder_that_names_texts_alone_joins_them_as_the_tokenizer_does(tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "model", "qwen3"), device="cpu")
    model.save(tmp_path / "saved")
    (tmp_path / "saved" / "chat_template.jinja").write_text(FLAT)
    again = CrossEncoder(tmp_path / "saved", device="cpu")
    assert again.tokenizer.chat_template == FLAT
    assert again.modalities == ["text"]
    np.testing.assert_allclose(again.predict(PAIRS), model.predict(PAIRS), rtol=1e-6)
    check_equal(again, reference(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (NOT_FOR_PAIRS, "it leaves out the query and the document"),
        (f"{QUERY} sun", "it leaves out the document"),
        ("{{ raise_exception('no such role') }}", r"it fails \(TemplateError: no such role\)"),
    ],
)
def test_a_template_that_does_not_show_both_texts_is_refused_until_it_is_mended(
    template: str, said: str, tmp_path: Path
) -> None:
    folder = chat_folder(tmp_path, template)
    model = CrossEncoder(folder, device="cpu")
    with pytest.raises(ValueError, match=f"{said}. Set one that writes the messages"):
        model.predict(PAIRS)
    model.tokenizer.chat_template = FLAT
    theirs = reference(folder, processor_kwargs={"chat_template": FLAT})
    check_equal(model, theirs)


def test_a_single_text_is_the_users_message(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path, PARTS)
    np.testing.assert_allclose(
        CrossEncoder(folder, device="cpu").predict("the cat"), reference(folder).predict("the cat"), rtol=1e-5
    )


def test_scores_in_files_know_the_template(tmp_path: Path) -> None:
    model = CrossEncoder(chat_folder(tmp_path / "model", FLAT), device="cpu")
    model.predict(PAIRS, out=tmp_path / "scores.npy")
    model.tokenizer.chat_template = FLAT.replace("river", "tree")
    with pytest.raises(ValueError, match=r"other tokenizer\. Delete it"):
        model.predict(PAIRS, out=tmp_path / "scores.npy")


def test_what_a_chat_template_cannot_do_is_refused(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path, FLAT)
    with pytest.raises(ValueError, match="`truncation='only_second'` is for pairs that the tokenizer joins"):
        CrossEncoder(folder, truncation="only_second", device="cpu")
    with pytest.raises(
        ValueError, match="The format of messages must be 'flat' or 'structured', but is 'round'"
    ):
        Transformer(
            folder,
            transformer_task="text-generation",
            modality_config={"message": {"format": "round"}},
        )


def test_training_goes_through_the_template(tmp_path: Path) -> None:
    from datasets import Dataset

    from likewise import CrossEncoderTrainer, CrossEncoderTrainingArguments

    model = CrossEncoder(chat_folder(tmp_path / "model", FLAT), device="cpu")
    rows = Dataset.from_dict(
        {"a": [a for a, _ in PAIRS[:8]], "b": [b for _, b in PAIRS[:8]], "label": [0.0, 1.0] * 4}
    )
    args = CrossEncoderTrainingArguments(
        str(tmp_path / "out"),
        report_to="none",
        use_cpu=True,
        max_steps=1,
        prompts="old",
        per_device_train_batch_size=8,
    )
    trainer = CrossEncoderTrainer(model=model, args=args, train_dataset=rows)
    batch = next(iter(trainer.get_train_dataloader()))["columns"]
    expected = model[0].token_sequences(PAIRS[:8], "old")  # type: ignore[union-attr, operator]
    assert sorted(batch.tokens.lengths.tolist()) == sorted(expected.lengths.tolist())
    before = model.predict(PAIRS)
    trainer.train()
    assert np.abs(model.predict(PAIRS) - before).max() > 0
