"""CLIPModel: images and texts in one space, beside the reference; every form of its folder; training; the model card."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer as Reference
from sentence_transformers.sentence_transformer import losses as reference_losses
from small import small_model_folder
from small_clip import pictures, small_clip_folder

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
    models,
)
from likewise.engine.embed import Embed
from likewise.evaluation import InformationRetrievalEvaluator

IMAGES = pictures(8)
TEXTS = ["a cat", "red dog", "", "a red cat and a dog near the old house by the river", "bird", "x"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A plain CLIP, as transformers saves it."""
    return small_clip_folder(tmp_path_factory.mktemp("clip") / "plain")


@pytest.fixture
def model(plain: str) -> SentenceTransformer:
    return SentenceTransformer(modules=[models.CLIPModel(plain)], device="cpu")


def check_equal(ours: Any, theirs: Any) -> None:
    for inputs in (IMAGES, TEXTS):
        np.testing.assert_allclose(ours.encode(inputs), theirs.encode(inputs), atol=1e-6, rtol=1e-5)


# Encode


def test_images_and_texts_are_embedded_as_the_reference_embeds_them(plain: str) -> None:
    check_equal(SentenceTransformer(plain, device="cpu"), Reference(plain, device="cpu"))


def test_images_and_texts_may_stand_in_one_list(model: SentenceTransformer) -> None:
    mixed = [IMAGES[0], TEXTS[0], TEXTS[1], IMAGES[1], {"image": IMAGES[2]}, {"text": TEXTS[3]}]
    images, texts = model.encode(IMAGES), model.encode(TEXTS)
    expected = [images[0], texts[0], texts[1], images[1], images[2], texts[3]]
    np.testing.assert_allclose(model.encode(mixed), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode(mixed, batch_size=1), expected, atol=1e-6)
    assert model.encode([]).shape == (0,)


def test_each_input_has_the_features_of_its_kind(model: SentenceTransformer) -> None:
    mixed = [TEXTS[0], IMAGES[0], TEXTS[3]]
    text, image, other = model.encode(mixed, output_value=None)
    assert image.keys() == {"image_text_info", "pixel_values", "sentence_embedding"}
    assert (
        text.keys()
        == other.keys()
        == {"image_text_info", "input_ids", "attention_mask", "sentence_embedding"}
    )
    assert image["pixel_values"].shape == (3, 16, 16)
    np.testing.assert_allclose(
        torch.stack([text["sentence_embedding"], image["sentence_embedding"]]),
        model.encode(mixed[:2]),
        atol=1e-6,
    )


def test_a_pool_embeds_images(model: SentenceTransformer) -> None:
    mixed = [*IMAGES[:3], *TEXTS[:4]]
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        found = model.encode(mixed, pool=pool, chunk_size=3)
    finally:
        model.stop_multi_process_pool(pool)
    np.testing.assert_allclose(found, model.encode(mixed), atol=1e-6)


@pytest.mark.parametrize("one", [IMAGES[0], "a cat", {"image": IMAGES[0]}], ids=["image", "text", "named"])
def test_one_input_gives_one_vector(model: SentenceTransformer, one: Any) -> None:
    found = model.encode(one)
    assert found.shape == (12,)
    np.testing.assert_allclose(found, model.encode([one])[0])


def test_a_path_and_a_data_uri_stand_for_the_image(model: SentenceTransformer, tmp_path: Path) -> None:
    IMAGES[0].save(tmp_path / "one.PNG")
    content = io.BytesIO()
    IMAGES[0].save(content, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    np.testing.assert_allclose(
        model.encode([str(tmp_path / "one.PNG"), uri]), model.encode([IMAGES[0]] * 2), atol=1e-6
    )
    # A name without a file is a text like any other.
    no_file = model.tokenize([str(tmp_path / "none.png"), "http://not an address.png", "http://[[no.png"])
    assert no_file["image_text_info"].tolist() == [1, 1, 1]


def test_an_address_is_fetched_only_where_that_was_allowed(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, fetched = "https://example.org/a cat.png".replace(" ", "-"), []

    def load_image(where: str) -> Any:
        fetched.append(where)
        return IMAGES[0]

    monkeypatch.setattr("transformers.image_utils.load_image", load_image)
    with pytest.raises(
        ValueError, match=r"An input is the address of an image, 'https://example.*fetch_urls = True"
    ):
        model.encode(["a cat", address])
    as_text = model.encode([{"text": address}])
    assert not fetched
    as_image = model.encode([{"image": address}])
    np.testing.assert_allclose(as_image, model.encode(IMAGES[:1]), atol=1e-6)
    assert np.abs(as_text - as_image).max() > 1e-3
    monkeypatch.setattr(model[0], "fetch_urls", True)
    np.testing.assert_array_equal(model.encode([address]), as_image)
    assert fetched == [address] * 2


def test_prompts_go_before_texts_alone(model: SentenceTransformer) -> None:
    np.testing.assert_allclose(model.encode(["cat"], prompt="a "), model.encode(["a cat"]), atol=1e-6)
    np.testing.assert_array_equal(model.encode(IMAGES, prompt="a "), model.encode(IMAGES))


def test_texts_that_are_cut_are_reported(
    model: SentenceTransformer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model.encode(TEXTS)
    assert "1 of the first 6 texts are longer than 20 tokens" in caplog.text


def test_the_model_says_what_it_is(model: SentenceTransformer) -> None:
    assert model.modalities == ["text", "image"]
    assert model.supports("image")
    assert not model.supports("audio")
    assert model.get_sentence_embedding_dimension() == 12
    assert model.max_seq_length == 20
    assert type(model.tokenizer).__name__ == "CLIPTokenizer"
    assert type(model.processor).__name__ == "CLIPProcessor"
    assert type(model.transformers_model).__name__ == "CLIPModel"
    assert "CLIPModel" in str(model)


def test_a_copy_in_another_process_is_the_same(model: SentenceTransformer) -> None:
    copied = pickle.loads(pickle.dumps(model[0]))
    features = model.tokenize([IMAGES[0], TEXTS[0]])
    torch.testing.assert_close(
        copied(dict(features))["sentence_embedding"], model(dict(features))["sentence_embedding"]
    )


def test_output_to_a_file_goes_on_with_the_same_images_only(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.npy"
    expected = np.array(model.encode(IMAGES, out=path))
    np.testing.assert_array_equal(model.encode([image.copy() for image in IMAGES], out=path), expected)
    with pytest.raises(ValueError, match="was not made of these texts"):
        model.encode(IMAGES[::-1], out=path)


# Folders


def test_what_is_saved_loads_here_and_in_the_reference(model: SentenceTransformer, tmp_path: Path) -> None:
    model.save(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} >= {"0_CLIPModel", "modules.json", "README.md"}
    assert (
        json.loads((tmp_path / "modules.json").read_text())[0]["type"]
        == "sentence_transformers.models.CLIPModel"
    )
    for load in (SentenceTransformer, Reference):
        check_equal(model, load(str(tmp_path), device="cpu"))


def before_5_4(folder: Path, plain: str) -> None:
    """What the reference wrote when the image processor was a "feature extractor", with pickled weights."""
    inner = folder / "0_CLIPModel"
    shutil.copytree(plain, inner)
    torch.save(load_file(inner / "model.safetensors"), inner / "pytorch_model.bin")
    (inner / "model.safetensors").unlink()
    settings = json.loads((inner / "preprocessor_config.json").read_text())
    old = {
        key: settings[key]
        for key in ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std")
    }
    old |= {"crop_size": 16, "size": 16, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"}
    (inner / "preprocessor_config.json").write_text(json.dumps(old))
    tokenizer = json.loads((inner / "tokenizer.json").read_text())["model"]
    (inner / "vocab.json").write_text(json.dumps(tokenizer["vocab"]))
    lines = [
        "#version: 0.2",
        *(merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["merges"]),
    ]
    (inner / "merges.txt").write_text("\n".join(lines) + "\n")
    (inner / "tokenizer.json").unlink()
    (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]'
    )


def as_6_2_saves_what_it_loaded(folder: Path, plain: str) -> None:
    """Its CLIPModel, which is a Transformer with settings."""
    from sentence_transformers.sentence_transformer.modules import CLIPModel

    Reference(modules=[CLIPModel(plain)], device="cpu").save_pretrained(str(folder))


def as_6_2_saves_a_plain_model(folder: Path, plain: str) -> None:
    """A Transformer that says which methods take images and texts."""
    Reference(plain, device="cpu").save_pretrained(str(folder))


@pytest.mark.parametrize("write", [before_5_4, as_6_2_saves_what_it_loaded, as_6_2_saves_a_plain_model])
def test_folders_of_every_release_load(
    write: Callable[[Path, str], None], plain: str, tmp_path: Path
) -> None:
    write(tmp_path, plain)
    ours = SentenceTransformer(str(tmp_path), device="cpu")
    assert isinstance(ours[0], models.CLIPModel)
    check_equal(ours, Reference(str(tmp_path), device="cpu"))
    check_equal(ours, SentenceTransformer(plain, device="cpu"))


# Training


def captioned(number: int = 8) -> Dataset:
    texts = [f"{colour} {thing}" for colour in ("red", "old") for thing in ("cat", "dog", "car", "sea")]
    columns = {"image": IMAGES[:number], "caption": texts[:number]}
    return Dataset.from_dict(columns).cast_column("image", ImageFeature())


@pytest.mark.parametrize("name", ["MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"])
def test_gradients_are_those_of_the_reference(plain: str, name: str) -> None:
    gradients = []
    rows = captioned()[:]
    for load, kind in ((SentenceTransformer, losses), (Reference, reference_losses)):
        each = load(plain, device="cpu")
        each.train()
        loss = getattr(kind, name)(each, **({"mini_batch_size": 3} if name.startswith("Cached") else {}))
        features = [each.preprocess(rows[column]) for column in ("image", "caption")]
        value = loss(features, None)
        value.backward()
        weights = {
            name.split(".", 2)[-1]: p.grad for name, p in each.named_parameters() if p.grad is not None
        }
        gradients.append((value.detach(), weights))
    (own, ours), (expected, theirs) = gradients
    torch.testing.assert_close(own, expected)
    assert ours.keys() == theirs.keys()
    for weight, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[weight], atol=1e-5, rtol=1e-4)


def test_a_batch_of_both_kinds_may_be_embedded_in_chunks(model: SentenceTransformer) -> None:
    loss = losses.MultipleNegativesRankingLoss(model)
    columns = [[*IMAGES[:2], *TEXTS[:3], IMAGES[2]], [*TEXTS[:3], *IMAGES[3:6]]]
    found = []
    for embed in (Embed(), Embed(1), Embed(25)):
        model.zero_grad()
        value = loss([model.tokenize(column) for column in columns], embed=embed)
        value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for other in found[1:]:
        for ours, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def trainer_of(
    model: SentenceTransformer, folder: Path, rows: Any, **options: Any
) -> SentenceTransformerTrainer:
    args = SentenceTransformerTrainingArguments(
        str(folder), num_train_epochs=8, per_device_train_batch_size=4, learning_rate=3e-3, report_to="none",
        save_strategy="no", **options,
    )  # fmt: skip
    loss = losses.MultipleNegativesRankingLoss(model)
    return SentenceTransformerTrainer(model, args, rows, loss=loss)


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_sampler": "no_duplicates"}, {"micro_batch_tokens": 10}],
    ids=["plain", "no_duplicates", "micro_batches"],
)
def test_it_trains_on_images_with_captions_and_comes_back(
    model: SentenceTransformer, tmp_path: Path, options: dict[str, Any]
) -> None:
    rows = captioned()
    ids = [str(row) for row in range(len(rows))]
    relevant = {name: {name} for name in ids}
    evaluator = InformationRetrievalEvaluator(
        dict(zip(ids, rows["caption"], strict=True)), dict(zip(ids, rows["image"], strict=True)), relevant
    )
    before, images = evaluator(model), model.encode(IMAGES)
    trainer = trainer_of(model, tmp_path, rows, **options)
    trainer.train()
    assert evaluator(model)["cosine_mrr@10"] > before["cosine_mrr@10"] + 0.1
    assert np.abs(model.encode(IMAGES) - images).max() > 0.1

    model.save(str(tmp_path / "saved"))
    for load in (SentenceTransformer, Reference):
        check_equal(model, load(str(tmp_path / "saved"), device="cpu"))
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "**Supported Modalities:** Text, Image" in card
    assert f"&#60;image {IMAGES[0].width}x{IMAGES[0].height}&#62;" in card
    assert "<li>min: " in card
    assert "tokens</li>" in card
    assert "PIL." not in card.replace("PIL.Image.open(path)", "")


def test_images_may_come_from_a_transform_or_a_stream(model: SentenceTransformer, tmp_path: Path) -> None:
    places = Dataset.from_dict({"image": list(range(8)), "caption": captioned()["caption"][:]})

    def open_images(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**batch, "image": [IMAGES[place] for place in batch["image"]]}

    before = {name: value.clone() for name, value in model.state_dict().items()}
    for data, sampler in (
        (places.with_transform(open_images), "no_duplicates"),
        (captioned().to_iterable_dataset(), "batch_sampler"),
    ):
        trainer = trainer_of(model, tmp_path, data, max_steps=2, batch_sampler=sampler)
        assert np.isfinite(trainer.train().training_loss)
        assert trainer.state.global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


# What is refused


def test_a_missing_image_is_refused_before_the_first_step(model: SentenceTransformer, tmp_path: Path) -> None:
    rows = Dataset.from_dict({"image": [IMAGES[0], None], "caption": ["a", "b"]}).cast_column(
        "image", ImageFeature()
    )
    with pytest.raises(ValueError, match=r"Column 'image' of the training data has no image .* in row 1"):
        trainer_of(model, tmp_path, rows)
    texts = Dataset.from_dict({"image": IMAGES[:2], "caption": [1, 2]}).cast_column("image", ImageFeature())
    with pytest.raises(ValueError, match="Column 'caption' of the training data holds int64, not text"):
        trainer_of(model, tmp_path, texts)


def test_a_model_of_texts_refuses_images(tmp_path: Path) -> None:
    model = SentenceTransformer(small_model_folder(tmp_path / "bert"), device="cpu")
    assert model.modalities == ["text"]
    with pytest.raises(ValueError, match=r"Column 'image' of the training data holds struct.*, not text"):
        trainer_of(model, tmp_path, captioned())
    with pytest.raises(TypeError, match="expected a string or a pair of strings"):
        model.encode(IMAGES[0])
    with pytest.raises(ValueError, match=r"CLIPModel takes a model of type 'clip', but .* is of type 'bert'"):
        models.CLIPModel(str(tmp_path / "bert"))


def test_what_is_neither_image_nor_text_is_refused(model: SentenceTransformer, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"is 3 .int.; expected a string or a pair of strings"):
        model.encode(["a", 3])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"An image cannot be read .*broken\.png. Correct or drop it"):
        model.encode([IMAGES[0], str(tmp_path / "broken.png")])
    with pytest.raises(
        ValueError, match="`output_value='token_embeddings'` is for models whose first module embeds"
    ):
        model.encode(TEXTS, output_value="token_embeddings")


def test_a_damaged_folder_is_refused(plain: str, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(plain, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"The image processor in .* cannot be read"):
        SentenceTransformer(str(folder), device="cpu")
    with pytest.raises(ValueError, match="`backend='onnx'` is for models of texts"):
        SentenceTransformer(plain, device="cpu", backend="onnx")


def test_without_pillow_the_install_line_is_shown(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'pip install "likewise\[image\]"'):
        models.CLIPModel(plain)


def test_an_image_keeps_its_size_whatever_its_kind() -> None:
    """Guards the fixture: the pictures differ in kind, so that conversion to colour is tested."""
    assert {image.mode for image in IMAGES} == {"RGB", "L", "P", "RGBA"}
    assert all(isinstance(image, Image.Image) for image in IMAGES)
