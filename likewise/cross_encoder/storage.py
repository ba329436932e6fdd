"""CrossEncoders in folders: read in every saved form, written so that every reader understands them.

Releases of the reference up to 5.3 read a transformers folder, with the activation in config.json; since 5.4 there are
modules.json and two files of settings beside it. Both are written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from likewise.cross_encoder.modules import LogitScore, Transformer
from likewise.model import storage
from likewise.model.storage import MODULES_FILE, StoredModel
from likewise.modules.base import read_settings, write_json
from likewise.modules.classes import OWN_PACKAGES, ModuleReader

logger = logging.getLogger(__name__)

MODEL_TYPE = "CrossEncoder"
ORGANISATION = "cross-encoder"  # where a bare name is looked for first
# The oldest releases of the reference that read the two forms.
READABLE_SINCE = {"modules": "5.4.0", "config": "4.0.0"}
TYPE_NAMES: dict[type[nn.Module], str] = {
    Transformer: "sentence_transformers.base.modules.transformer.Transformer",
    LogitScore: "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
}
OWN = {module_class.__name__: module_class for module_class in TYPE_NAMES}
OWN_KINDS: storage.Kinds = {
    "activation_fn": ("a text", storage.is_a(str)),
    "keep_in_fp32_modules": ("a list", storage.is_a(list)),
}
OLD_ACTIVATION = "sbert_ce_default_activation_function"


class PairModuleReader(ModuleReader):
    """Reads the modules of CrossEncoders, whose Transformer is another than that of embedding models."""

    def find_class(self, type_name: str) -> Any:
        """The class that a name in a file stands for."""
        package, _, class_name = type_name.rpartition(".")
        if package.split(".")[0] in OWN_PACKAGES and class_name in OWN:
            return OWN[class_name]
        return super().find_class(type_name)


def load(
    folder: Path,
    trust_remote_code: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
    processor_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    backend: str = "torch",
) -> StoredModel:
    """Load a CrossEncoder's modules from a folder; a plain transformers model gets a head where it has none.

    Raises:
        FileNotFoundError: The folder holds no model, or a file is missing.
        ValueError: A file is damaged, names a class that is not trusted, or a path outside of the folder.
    """
    options = storage.options_of(trust_remote_code, model_kwargs, processor_kwargs, config_kwargs, backend)
    card = storage.text_of(folder / "README.md")
    listing = folder / MODULES_FILE
    if listing.exists():
        settings = storage.settings_in(folder)
        if settings.get("model_type") == MODEL_TYPE:
            storage.read_model_settings(folder, settings, OWN_KINDS)  # which refuses others
            reader = PairModuleReader(folder, listing, trust_remote_code, options)
            return StoredModel(storage.listed_modules(reader)[0], settings=settings, card=card)
        kind = settings.get("model_type") or "SentenceTransformer"
        logger.warning(
            "%s holds a %s, which does not score pairs: its encoder is taken, and gets a head where it has none. Train it "
            "before you trust its scores.",
            folder,
            kind,
        )
    storage.refuse_no_transformers(folder, "a saved CrossEncoder", "model that could score pairs")
    return StoredModel(_default_modules(folder, options), card=card)


def _default_modules(folder: Path, options: Mapping[str, Any]) -> dict[str, nn.Module]:
    """A transformers folder: its own head; a language model's words for yes and no; or a new head."""
    kwargs = {
        "model_kwargs": options["model_kwargs"],
        "processor_kwargs": options["tokenizer_kwargs"],
        "config_kwargs": options["config_kwargs"],
        "backend": options["backend"],
    }
    config = storage.settings_in(folder, "config.json")
    if not str((config.get("architectures") or [""])[0]).endswith("ForCausalLM"):
        return {"0": Transformer(str(folder), transformer_task="sequence-classification", **kwargs)}
    transformer = Transformer(str(folder), transformer_task="text-generation", **kwargs)
    known = transformer.tokenizer.get_vocab()
    if not {"yes", "no"} <= set(known):
        raise ValueError(
            f"The tokenizer in {folder} has no tokens 'yes' and 'no', whose logits would be a language model's score of a "
            "pair. Pass `modules=[Transformer(...), LogitScore(true_token_id, false_token_id)]` with tokens of your choice."
        )
    return {"0": transformer, "1": LogitScore(known["yes"], known["no"])}


def write_activation(folder: Path, activation: str | None) -> None:
    """Name the activation in config.json, where readers up to 5.3 and servers look for it."""
    config = read_settings(folder, "config.json")
    config.pop(OLD_ACTIVATION, None)
    config["sentence_transformers"] = {"version": READABLE_SINCE["config"]}
    if activation is not None:
        config["sentence_transformers"]["activation_fn"] = activation
    write_json(folder / "config.json", config)
