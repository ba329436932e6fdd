"""Modules that somebody wrote for the reference: the same class gives the same embeddings here, and trains, saves, loads."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from importlib import import_module, invalidate_caches
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
from small import sentences, small_model_folder

import likewise

# The reference's, of its own older paths and of features without a prompt's length.
pytestmark = pytest.mark.filterwarnings("ignore:Importing from:DeprecationWarning")
TEXTS = sentences(12)
SOURCE = '''
import torch
from torch import nn

from LIBRARY.models import InputModule, Module, Transformer


class DecayPooling(Module):
    """The later a token, the more it counts; reads padded features and `strength`, and has a weight of its own."""

    config_keys = ["size", "decay"]
    forward_kwargs = {"strength"}

    def __init__(self, size, decay=0.9, **kwargs):
        super().__init__()
        self.size = size
        self.decay = decay
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, size))

    def forward(self, features, strength=1.0, **kwargs):
        mask = features["attention_mask"].unsqueeze(-1).float()
        length = features["token_embeddings"].shape[1]
        weights = self.decay ** torch.arange(length - 1, -1, -1, device=mask.device).view(1, -1, 1) * mask * strength
        total = (features["token_embeddings"] * weights).sum(1)
        features["sentence_embedding"] = self.scale * total / weights.sum(1).clamp(min=1e-9) * strength
        return features

    def get_embedding_dimension(self):
        return self.size

    get_sentence_embedding_dimension = get_embedding_dimension

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(
        cls, model_name_or_path, subfolder="", token=None, cache_folder=None, revision=None, local_files_only=False, **kwargs
    ):
        where = dict(
            subfolder=subfolder, token=token, cache_folder=cache_folder, revision=revision, local_files_only=local_files_only
        )
        model = cls(**cls.load_config(model_name_or_path, **where))
        return cls.load_torch_weights(model_name_or_path, model=model, **where)


class Letters(InputModule):
    """A vector for each letter; padded features from a method of the name that the release asks for."""

    config_keys = ["size"]

    def __init__(self, size=16):
        super().__init__()
        self.size = size
        self.vectors = nn.Embedding(128, size)

    def METHOD(self, inputs, *args, **kwargs):
        prompt = (args[0] if args else kwargs.get("prompt")) or ""
        ids = [torch.tensor([ord(letter) % 128 for letter in prompt + text]) for text in inputs]
        mask = [torch.ones(len(part), dtype=torch.long) for part in ids]
        pad = nn.utils.rnn.pad_sequence
        return {"input_ids": pad(ids, batch_first=True), "attention_mask": pad(mask, batch_first=True)}

    def forward(self, features, **kwargs):
        features["token_embeddings"] = self.vectors(features["input_ids"])
        return features

    def save(self, output_path, *args, safe_serialization=True, **kwargs):
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path, subfolder="", **kwargs):
        model = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=model)


class Shouting(Transformer):
    """Changes texts before they are cut into tokens, and embeddings after."""

    @classmethod
    def load(cls, *args, **kwargs):
        return super().load(*args, **kwargs)

    def preprocess(self, inputs, prompt=None, **kwargs):
        return super().preprocess([text.replace("cat", "dog") for text in inputs], prompt=prompt, **kwargs)

    def forward(self, features, **kwargs):
        features = super().forward(features, **kwargs)
        features["token_embeddings"] = features["token_embeddings"] * features["attention_mask"].unsqueeze(-1) * 2
        return features
'''

Build = Callable[[ModuleType, str], Any]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str], ModuleType]:
    """The source above as a module of its own, written against a library."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(library: ModuleType, method: str = "preprocess") -> ModuleType:
        name = f"written_for_{library.__name__}_{method}"
        text = SOURCE.replace("LIBRARY", library.__name__).replace("METHOD", method)
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        invalidate_caches()
        return import_module(name)

    return write


def with_decay(library: ModuleType, code: ModuleType, folder: str) -> Any:
    torch.manual_seed(1)
    return library.SentenceTransformer(
        modules=[library.models.Transformer(folder), code.DecayPooling(32, 0.8), library.models.Dense(32, 8)],
        device="cpu",
        prompts={"query": "find "},
    )


def test_a_module_in_the_middle_gets_padded_features_and_its_arguments(
    written: Callable[..., ModuleType], tmp_path: Path
) -> None:
    folder = small_model_folder(tmp_path / "bert")
    ours, theirs = (
        with_decay(library, written(library), folder) for library in (likewise, sentence_transformers)
    )
    for options in ({}, {"prompt_name": "query"}, {"strength": 2.0}):
        np.testing.assert_allclose(
            ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options), rtol=1e-5, atol=1e-6
        )
    with pytest.raises(ValueError, match="strenght"):
        ours.encode(TEXTS, strenght=2.0)


def test_its_weights_get_the_references_gradients_and_train(
    written: Callable[..., ModuleType], tmp_path: Path
) -> None:
    from datasets import Dataset

    folder = small_model_folder(tmp_path / "bert")
    gradients = []
    for library in (likewise, sentence_transformers):
        model = with_decay(library, written(library), folder)
        losses = import_module(f"{library.__name__}.losses")
        features = [model.tokenize(TEXTS[:6]), model.tokenize(TEXTS[6:])]
        model.eval()
        losses.MultipleNegativesRankingLoss(model)(features, None).backward()
        gradients.append(model[1].scale.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    model = with_decay(likewise, written(likewise), folder)
    before = model[1].scale.detach().clone()
    likewise.SentenceTransformerTrainer(
        model=model,
        args=likewise.SentenceTransformerTrainingArguments(
            str(tmp_path / "run"),
            max_steps=2,
            per_device_train_batch_size=4,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=Dataset.from_dict({"anchor": TEXTS[:6], "positive": TEXTS[6:]}),
        loss=likewise.losses.MultipleNegativesRankingLoss(model),
    ).train()
    assert not torch.equal(model[1].scale, before)


@pytest.mark.parametrize("method", ["tokenize", "preprocess"])
def test_a_first_module_may_be_of_any_release(
    written: Callable[..., ModuleType], tmp_path: Path, method: str
) -> None:
    made = []
    for library in (likewise, sentence_transformers):
        torch.manual_seed(2)
        code = written(library, method)
        made.append(
            library.SentenceTransformer(
                modules=[code.Letters(), library.models.Pooling(16, include_prompt=False)],
                device="cpu",
                prompts={"query": "find: "},
            )
        )
    ours, theirs = made
    for name in (None, "query"):
        found, expected = (model.encode(TEXTS, prompt_name=name) for model in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_overridden_method_of_a_transformer_is_called(
    written: Callable[..., ModuleType], tmp_path: Path
) -> None:
    folder = small_model_folder(tmp_path / "bert")
    ours, theirs = (
        library.SentenceTransformer(
            modules=[written(library).Shouting(folder), library.models.Pooling(32)], device="cpu"
        )
        for library in (likewise, sentence_transformers)
    )
    found = ours.encode(["a cat sees", "the dog runs on and on"], prompt="find ")
    expected = theirs.encode(["a cat sees", "the dog runs on and on"], prompt="find ")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    plain = likewise.SentenceTransformer(
        modules=[likewise.models.Transformer(folder), likewise.models.Pooling(32)], device="cpu"
    )
    np.testing.assert_allclose(
        ours.encode("a cat sees"), 2 * plain.encode("a dog sees"), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("safe", [True, False])
def test_what_it_saves_it_loads_again_for_those_who_trust_it(
    written: Callable[..., ModuleType], tmp_path: Path, safe: bool
) -> None:
    folder = small_model_folder(tmp_path / "bert")
    model = with_decay(likewise, written(likewise), folder)
    model[1].scale.data.mul_(3)
    model.save_pretrained(str(tmp_path / "model"), safe_serialization=safe)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        likewise.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    again = likewise.SentenceTransformer(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    letters = written(likewise).Letters()
    (tmp_path / "letters").mkdir()
    letters.save(str(tmp_path / "letters"), safe_serialization=safe)
    loaded = type(letters).load(str(tmp_path), subfolder="letters")
    torch.testing.assert_close(loaded.vectors.weight, letters.vectors.weight)
    weights = type(letters).load_torch_weights(str(tmp_path), subfolder="letters")
    torch.testing.assert_close(weights["vectors.weight"], letters.vectors.weight.detach())


def test_own_modules_load_from_a_models_subfolder(tmp_path: Path) -> None:
    model = likewise.SentenceTransformer(
        modules=[
            likewise.models.Transformer(small_model_folder(tmp_path / "bert")),
            likewise.models.Pooling(32, "max"),
            likewise.models.Dense(32, 8),
        ],
        device="cpu",
    )
    model.save_pretrained(str(tmp_path / "model"))
    folder = str(tmp_path / "model")
    dense = likewise.models.Dense.load(folder, subfolder="2_Dense", local_files_only=True)
    torch.testing.assert_close(dense.linear.weight, model[2].linear.weight)
    assert likewise.models.Pooling.load(folder, "1_Pooling").pooling_mode == "max"
    assert likewise.models.Transformer.load(folder).max_seq_length == model.max_seq_length
    with pytest.raises(FileNotFoundError, match=r"3_Dense"):
        likewise.models.Dense.load(folder, subfolder="3_Dense")


def test_a_first_module_without_a_way_to_read_texts_is_told_so() -> None:
    class Nothing(likewise.models.InputModule):
        def forward(self, features: Any, **kwargs: Any) -> Any:
            return features

    model = likewise.SentenceTransformer(modules=[Nothing()], device="cpu")
    with pytest.raises(NotImplementedError, match="Nothing must have a method `tokenize` or `preprocess`"):
        model.encode("a cat")


class Without(torch.nn.Module):
    """Gives what it is told to, and neither reads texts nor saves itself."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def forward(self, features: Any) -> Any:
        return self.made(features)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            lambda first: [first, Without(lambda features: None)],
            "Without returned NoneType.*`return features`",
        ),
        (lambda first: [first, Without(lambda features: torch.ones(3))], "Without returned Tensor"),
        (lambda first: [Without(dict), first], "Without, has no method `tokenize` or `preprocess`"),
        (lambda first: [first, "pooling"], "`modules` must hold modules, but '1' is 'pooling'"),
        (lambda first: [first, likewise.models.Normalize], r"Make one of it: `Normalize\(...\)`"),
        (lambda first: first, r"`modules` must be a list, but is one Transformer"),
    ],
)
def test_modules_that_cannot_be_are_refused_in_words(tmp_path: Path, modules: Any, message: str) -> None:
    first = likewise.models.Transformer(small_model_folder(tmp_path / "small"))
    with pytest.raises(TypeError, match=message):
        likewise.SentenceTransformer(modules=modules(first), device="cpu").encode(["a cat", "a dog"])


def test_other_mistakes_around_modules_are_named(tmp_path: Path) -> None:
    first = likewise.models.Transformer(small_model_folder(tmp_path / "small"))
    pooling = likewise.models.Pooling(32)
    model = likewise.SentenceTransformer(modules=[first, pooling, Without(dict)], device="cpu")
    with pytest.raises(TypeError, match="Without has no method `save`"):
        model.save_pretrained(str(tmp_path / "saved"))
    with pytest.raises(TypeError, match=r"takes features, but got list. Texts go to `encode`"):
        model(["a cat"])
    model[2] = likewise.models.Dense(16, 8)
    with pytest.raises(ValueError, match=r"Dense takes 16 numbers, but `sentence_embedding` has 32"):
        model.encode("a cat")
    with pytest.raises(TypeError, match=r"`prompts` must be a dict of texts by name, .*but is 'query: '"):
        likewise.SentenceTransformer(modules=[first, pooling], prompts="query: ")  # type: ignore[arg-type]


def test_a_tokenizer_is_saved_of_either_kind(tmp_path: Path) -> None:
    transformer = likewise.models.Transformer(small_model_folder(tmp_path / "bert"))

    class Other(likewise.models.InputModule):
        def forward(self, features: Any, **kwargs: Any) -> Any:
            return features

    for number, tokenizer in enumerate((transformer.tokenizer, transformer.tokenizer.backend_tokenizer)):
        other = Other()
        other.save_tokenizer(tmp_path / str(number))
        assert not (tmp_path / str(number)).exists()
        other.tokenizer = tokenizer
        (tmp_path / str(number)).mkdir()
        other.save_tokenizer(tmp_path / str(number))
        assert (tmp_path / str(number) / "tokenizer.json").exists()


def test_a_method_that_is_replaced_or_wrapped_is_called(tmp_path: Path) -> None:
    folder = small_model_folder(tmp_path / "bert")

    def fresh(kind: Any = likewise.models.Transformer) -> Any:
        return likewise.SentenceTransformer(modules=[kind(folder), likewise.models.Pooling(32)], device="cpu")

    class Wrapped(likewise.models.Transformer):
        @functools.wraps(likewise.models.Transformer.preprocess)
        def preprocess(self, inputs: Any, prompt: Any = None, **kwargs: Any) -> Any:
            return super().preprocess([text.replace("cat", "dog") for text in inputs], prompt, **kwargs)

    class Changed(likewise.SentenceTransformer):
        def tokenize(self, texts: Any) -> Any:
            return super().tokenize([text.replace("cat", "dog") for text in texts])

    plain = fresh()
    expected = plain.encode("a dog sees")
    on_instance = fresh()
    cut = on_instance[0].tokenize
    on_instance[0].tokenize = lambda texts: cut([text.replace("cat", "dog") for text in texts])
    for model in (fresh(Wrapped), on_instance, Changed(modules=list(plain), device="cpu")):
        np.testing.assert_allclose(model.encode("a cat sees"), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            model.encode("a cat sees", prompt="the "), plain.encode("the a dog sees"), rtol=1e-5, atol=1e-6
        )
    doubled = fresh()
    pool = doubled[1].forward
    doubled[1].forward = lambda features: pool(
        features
        | {"token_embeddings": features["token_embeddings"] * features["attention_mask"].unsqueeze(-1) * 2}
    )
    np.testing.assert_allclose(doubled.encode("a dog sees"), 2 * expected, rtol=1e-5, atol=1e-6)


def test_a_first_module_in_a_router_gets_its_prompt_too(tmp_path: Path) -> None:
    class Older(likewise.models.Transformer):
        def tokenize(self, texts: Any, padding: bool = True) -> Any:  # before prompts were an argument
            assert padding is True
            return super().tokenize(texts)

    folder = small_model_folder(tmp_path / "bert")
    modules = [Older(folder), likewise.models.Pooling(32)]
    routed = likewise.SentenceTransformer(modules=[likewise.models.Router({"query": modules})], device="cpu")
    alone = likewise.SentenceTransformer(modules=modules, device="cpu")
    for prompt in ("", "find "):
        np.testing.assert_allclose(
            routed.encode(TEXTS, prompt=prompt),
            alone.encode([prompt + text for text in TEXTS]),
            rtol=1e-5,
            atol=1e-6,
        )
    pairs = [("a cat", "the dog")]
    np.testing.assert_allclose(
        alone.encode(pairs, prompt="find "), alone.encode([("find a cat", "the dog")]), rtol=1e-5, atol=1e-6
    )


def test_a_load_of_ones_own_gets_the_options_of_the_constructor(
    written: Callable[..., ModuleType], tmp_path: Path
) -> None:
    code = written(likewise)
    model = likewise.SentenceTransformer(
        modules=[code.Shouting(small_model_folder(tmp_path / "bert")), likewise.models.Pooling(32)],
        device="cpu",
    )
    model.save_pretrained(str(tmp_path / "model"))
    options: dict[str, Any] = {
        "model_kwargs": {"dtype": torch.bfloat16},
        "tokenizer_kwargs": {"model_max_length": 7},
    }
    again = likewise.SentenceTransformer(
        str(tmp_path / "model"), device="cpu", trust_remote_code=True, **options
    )
    assert type(again[0]) is code.Shouting
    assert (again.dtype, again.tokenizer.model_max_length) == (torch.bfloat16, 7)


def test_texts_that_lie_in_one_row_are_refused_rather_than_taken_for_one_text() -> None:
    features = {"token_embeddings": torch.ones(1, 5, 4), "cu_seq_lens_q": torch.tensor([0, 2, 5])}
    with pytest.raises(ValueError, match="told apart by `cu_seq_lens_q`"):
        likewise.models.Pooling(4)(features)


def test_subclasses_save_the_settings_that_they_name() -> None:
    class Plain(likewise.models.Dense):
        config_keys = ("in_features", "out_features", "bias", "activation_function")

    class More(likewise.models.Pooling):
        config_keys = (*likewise.models.Pooling.config_keys, "extra")
        extra = 3

    assert Plain(4, 2).get_config_dict().keys() == {*Plain.config_keys}
    assert More(4).get_config_dict() == likewise.models.Pooling(4).get_config_dict() | {"extra": 3}
