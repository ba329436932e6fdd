"""MultiVectorEncoders in folders: of this library and the reference, of PyLate, Stanford's ColBERT and BGE-M3, and models made into one.

PyLate: Chaffin and Sourty, https://github.com/lightonai/pylate. Stanford's: https://github.com/stanford-futuredata/ColBERT.
BGE-M3: Chen et al. 2024, https://arxiv.org/abs/2402.03216.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from likewise.model.storage import (
    MODULES_FILE,
    StoredModel,
    is_a,
    listed_modules,
    options_of,
    read_model_settings,
    refuse_no_transformers,
    settings_in,
    text_of,
)
from likewise.modules import Dense, Normalize, Pooling, Transformer
from likewise.modules.base import read_settings, read_weights
from likewise.modules.classes import OWN_PACKAGES, ModuleReader
from likewise.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

logger = logging.getLogger(__name__)

MODEL_TYPE = "MultiVectorEncoder"
PYLATE_TYPE, PYLATE_DENSE = "ColBERT", "pylate.models.Dense.Dense"
STANFORD, STANFORD_FILE = "HF_ColBERT", "artifact.metadata"
READABLE_SINCE = "6.0.0"  # the oldest release of the reference that reads such a folder
TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"
NEW_SIZE = 128
BGE_M3_FILE = "colbert_linear.pt"
QUERY_TOKENS = 32  # to which PyLate's and Stanford's queries are filled up where the folder does not say
PYLATE_KEYS = (
    "query_prefix", "document_prefix", "query_length", "document_length", "query_expansion", "do_query_expansion",
    "attend_to_expansion_tokens", "attend_to_mask_tokens", "skiplist_words",
)  # fmt: skip
TYPE_NAMES: dict[type[nn.Module], str] = {
    Transformer: "sentence_transformers.base.modules.transformer.Transformer",
    Dense: "sentence_transformers.base.modules.dense.Dense",
    Normalize: "sentence_transformers.base.modules.normalize.Normalize",
}
OWN = {module_class.__name__: module_class for module_class in (MultiVectorMask, HierarchicalTokenPooling)}


@dataclass
class Older:
    """What a folder that is not of this form says of its model.

    Attributes:
        prompts: What stands in front of queries and documents.
        knobs: Attributes of the Transformer.
        skiplist: Words of documents that are not scored.
    """

    prompts: dict[str, str] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)
    skiplist: list[str] = field(default_factory=list)

    @classmethod
    def of_pylate(cls, settings: Mapping[str, Any]) -> Older:
        """From PyLate's settings; queries are filled up unless it says otherwise, and punctuation is not scored."""
        older = cls(skiplist=settings.get("skiplist_words") or [])
        saved = settings.get("prompts") or {}
        for key, name in (("query_prefix", "query"), ("document_prefix", "document")):
            if key in settings:
                prefix = settings[key] or ""
                older.prompts[name] = prefix + (saved.get(name) or "").removeprefix(prefix)
        if settings.get("skiplist_words") is None and (
            older.prompts or settings.get("model_type") == PYLATE_TYPE
        ):
            older.skiplist = list(string.punctuation)
        lengths = {name: settings.get(name) for name in ("query_length", "document_length")}
        if "query_expansion" in settings:
            older.knobs["query_expansion"] = settings["query_expansion"]
        elif any(key in settings for key in PYLATE_KEYS) and settings.get("do_query_expansion") is not False:
            attend = settings.get("attend_to_expansion_tokens", settings.get("attend_to_mask_tokens"))
            length = lengths.pop("query_length") or QUERY_TOKENS
            older.knobs["query_expansion"] = {"strategy": "fixed", "attend": bool(attend), "length": length}
        older.knobs |= {name: value for name, value in lengths.items() if value is not None}
        return older

    @classmethod
    def of_stanford(cls, folder: Path) -> Older:
        """From the settings in a folder of Stanford's, by their defaults where there are none."""
        there = (folder / STANFORD_FILE).is_file()
        said = read_settings(folder, STANFORD_FILE) if there else {}
        if not there:
            logger.warning("%s has no %s: ColBERT's usual settings are taken.", folder, STANFORD_FILE)
        prompts = {
            "query": (said.get("query_token_id") or "[unused0]") + " ",
            "document": (said.get("doc_token_id") or "[unused1]") + " ",
        }
        expansion = {
            "strategy": "fixed",
            "attend": bool(said.get("attend_to_mask_tokens")),
            "length": said.get("query_maxlen") or QUERY_TOKENS,
        }
        knobs = {"query_expansion": expansion, "document_length": said.get("doc_maxlen")}
        skiplist = list(string.punctuation) if said.get("mask_punctuation", True) else []
        return cls(prompts, knobs, skiplist)

    def apply(self, modules: Mapping[str, nn.Module], settings: dict[str, Any]) -> None:
        """Give a model these settings where its folder has none of its own."""
        transformer = next((module for module in modules.values() if isinstance(module, Transformer)), None)
        if transformer is not None:
            for name, value in self.knobs.items():
                if getattr(transformer, name) is None and value is not None:
                    setattr(transformer, name, value)
            _keep_whole(transformer, self.prompts)
        settings["prompts"] = {**(settings.get("prompts") or {}), **self.prompts}


def _keep_whole(transformer: Transformer, prefixes: Mapping[str, str]) -> None:
    """Have the tokenizer read a prefix that is a token of its vocabulary as that token, as the model was trained."""
    from transformers import AddedToken

    tokenizer = transformer.tokenizer
    known = {*tokenizer.get_vocab(), *tokenizer.get_added_vocab()}
    special = []
    for text in filter(str.strip, prefixes.values()):
        prefix = next((part for part in (text, text.split(None, 1)[0]) if part in known), None)
        if prefix is not None and tokenizer.tokenize(prefix) != [prefix]:
            special.append(AddedToken(prefix, normalized=False, special=True))
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": special})
        transformer.tokenizer = tokenizer  # what tokenises is made anew


class TokenModuleReader(ModuleReader):
    """Reads modules whose Dense works on tokens where its settings do not say."""

    def find_class(self, type_name: str) -> Any:
        """The class that a name in a file stands for; PyLate's own projection is a Dense."""
        package, _, class_name = type_name.rpartition(".")
        if package.split(".")[0] in OWN_PACKAGES and class_name in OWN:
            return OWN[class_name]
        return Dense if type_name == PYLATE_DENSE else super().find_class(type_name)

    def load(self, module_class: Any, folder: Path) -> Any:
        """A module of a class from its folder."""
        module = super().load(module_class, folder)
        if type(module) is Dense and "module_input_name" not in read_settings(folder, Dense.config_file_name):
            _to_tokens(module)
        return module


def _to_tokens(dense: Dense) -> None:
    dense.module_input_name = dense.module_output_name = TOKENS


def load(
    folder: Path,
    trust_remote_code: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
    processor_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    backend: str = "torch",
) -> StoredModel:
    """Load a MultiVectorEncoder's modules from a folder, or make them of another model's.

    Raises:
        FileNotFoundError: The folder holds no model, or a file is missing.
        ValueError: A file is damaged, names a class that is not trusted, or a path outside of the folder; or nothing in it
            embeds tokens.
    """
    options = options_of(trust_remote_code, model_kwargs, processor_kwargs, config_kwargs, backend)
    listing, saved = folder / MODULES_FILE, settings_in(folder)
    kind = saved.get("model_type") or "SentenceTransformer"
    if listing.exists() and kind in (MODEL_TYPE, PYLATE_TYPE, "SentenceTransformer"):
        settings = read_model_settings(folder, saved, {"similarity_fn_name": ("a text", is_a(str))})
        older = Older.of_pylate(saved)
        reader = TokenModuleReader(folder, listing, trust_remote_code, options)
        modules, kwargs = listed_modules(reader)
        if kind == PYLATE_TYPE:
            modules |= _ending(len(modules), older.skiplist)
        elif kind != MODEL_TYPE and (folder / BGE_M3_FILE).exists():
            modules = _of_bge_m3(modules, folder)
            settings["similarity_fn_name"] = "meanmaxsim"
        elif kind != MODEL_TYPE:
            modules = _converted(modules, older.skiplist, folder)
        older.apply(modules, settings)
        return StoredModel(
            modules, kwargs, settings, text_of(folder / "README.md") if kind == MODEL_TYPE else None
        )
    if listing.exists():
        logger.warning(
            "%s holds a %s, which has no embedding for each token: its transformers model is taken, and gets a new projection.",
            folder,
            kind,
        )
    return _from_transformers(folder, options)


def _from_transformers(folder: Path, options: Mapping[str, Any]) -> StoredModel:
    """A folder without a listing of modules: Stanford's ColBERT, or a plain transformers model."""
    refuse_no_transformers(folder, f"{MODULES_FILE} (a saved MultiVectorEncoder)")
    config = settings_in(folder, "config.json")
    architectures = [str(name) for name in config.get("architectures") or []]
    if any(name.endswith("ForRetrieval") for name in architectures):
        raise ValueError(
            f"{folder} holds a {architectures[0]}, which embeds pictures of pages; only texts are taken here. Choose a model "
            "of texts."
        )
    transformer = Transformer(str(folder), **options)
    settings: dict[str, Any] = {}
    if STANFORD not in architectures:
        return StoredModel(
            {"0": transformer, "1": _new_projection(transformer, folder), **_ending(2, [])}, settings=settings
        )
    older = Older.of_stanford(folder)
    weight = read_weights(folder).get("linear.weight")
    if weight is None:
        raise ValueError(
            f"{folder} says that it holds a {STANFORD}, but its weights have no `linear.weight`. Copy or download it again."
        )
    size_out, size_in = weight.shape
    dense = Dense(size_in, size_out, False, nn.Identity(), weight.float(), module_input_name=TOKENS)
    modules: dict[str, nn.Module] = {"0": transformer, "1": dense, **_ending(2, older.skiplist)}
    older.apply(modules, settings)
    return StoredModel(modules, settings=settings)


def _new_projection(transformer: Transformer, folder: Path) -> Dense:
    size = transformer.get_word_embedding_dimension()
    logger.warning(
        "%s has no projection of tokens: a new one, of %d to %d numbers, is made at random. Train the model before you use it.",
        folder,
        size,
        NEW_SIZE,
    )
    return Dense(size, NEW_SIZE, False, nn.Identity(), module_input_name=TOKENS)


def _ending(first: int, skiplist: list[str]) -> dict[str, nn.Module]:
    """The two modules that come last."""
    return {str(first): MultiVectorMask(skiplist), str(first + 1): Normalize(TOKENS)}


def _of_bge_m3(modules: Mapping[str, nn.Module], folder: Path) -> dict[str, nn.Module]:
    """BGE-M3's Transformer, with the projection of tokens that lies beside it; the first token stands for the whole text."""
    transformer: Any = next(iter(modules.values()))
    weights = torch.load(folder / BGE_M3_FILE, map_location="cpu", weights_only=True)
    size_out, size_in = weights["weight"].shape
    dense = Dense(
        size_in, size_out, True, nn.Identity(), weights["weight"].float(), weights["bias"].float(), TOKENS
    )
    mask = MultiVectorMask([transformer.tokenizer.cls_token], skiplist_tasks=["query", "document"])
    return {"0": transformer, "1": dense, "2": mask, "3": Normalize(TOKENS)}


def _converted(modules: Mapping[str, nn.Module], skiplist: list[str], folder: Path) -> dict[str, nn.Module]:
    """Those of a model of one vector a text that work on tokens, its projection among them."""
    kept: list[nn.Module] = [
        module
        for module in modules.values()
        if not isinstance(module, Pooling)
        and not (isinstance(module, Normalize) and module.module_input_name == SENTENCE)
    ]
    transformer = next((module for module in kept if isinstance(module, Transformer)), None)
    if transformer is None:
        names = ", ".join(type(module).__name__ for module in modules.values())
        raise ValueError(
            f"{folder} holds a model of {names}, without a Transformer, whose tokens would be compared. Choose another model."
        )
    projections = [module for module in kept if isinstance(module, Dense)]
    for dense in projections:
        if dense.module_input_name == SENTENCE:
            _to_tokens(dense)
    if not projections:
        kept.append(_new_projection(transformer, folder))
    kept += _ending(0, skiplist).values()
    return {str(number): module for number, module in enumerate(kept)}
