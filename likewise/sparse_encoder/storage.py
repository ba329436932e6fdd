"""SparseEncoders in folders: read in every saved form, and made of models of other families."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from likewise.model import storage
from likewise.model.storage import MODULES_FILE, StoredModel
from likewise.modules import Pooling, Transformer
from likewise.modules.base import read_settings
from likewise.modules.classes import ModuleReader
from likewise.modules.router import output_dimension
from likewise.modules.saved_arguments import CONFIG_FILES
from likewise.sparse_encoder.modules import LexicalWeights, MLMTransformer, SparseAutoEncoder, SpladePooling
from likewise.sparse_encoder.modules.lexical_weights import BGE_M3_FILE

logger = logging.getLogger(__name__)

MODEL_TYPE = "SparseEncoder"
READABLE_SINCE = "5.0.0"  # the oldest release of the reference that reads such a folder
ORGANISATION = "sparse-encoder"  # where a bare name is looked for too
OTHER_FAMILIES = ("CrossEncoder", "MultiVectorEncoder")
OWN_KINDS: storage.Kinds = {
    "max_active_dims": ("a whole number of at least 1", lambda dims: type(dims) is int and dims >= 1)
}


class SparseModuleReader(ModuleReader):
    """Reads the modules of SparseEncoders: a Transformer may be saved with a masked language model's head."""

    def load(self, module_class: Any, folder: Path) -> Any:
        """A module of a class from its folder."""
        is_there = module_class is Transformer and (folder / CONFIG_FILES[0]).exists()
        if is_there and read_settings(folder, CONFIG_FILES[0]).get("transformer_task") == MLMTransformer.task:
            module_class = MLMTransformer
        return super().load(module_class, folder)


def load(
    folder: Path,
    trust_remote_code: bool = False,
    model_kwargs: Mapping[str, Any] | None = None,
    processor_kwargs: Mapping[str, Any] | None = None,
    config_kwargs: Mapping[str, Any] | None = None,
    backend: str = "torch",
) -> StoredModel:
    """Load a SparseEncoder's modules from a folder, or make them of another model's.

    A masked language model gets SpladePooling; every other one, and a SentenceTransformer, a SparseAutoEncoder that is new. BGE-M3's
    folder, which holds a layer of weights for tokens beside a SentenceTransformer, gets that.

    Raises:
        FileNotFoundError: The folder holds no model, or a file is missing.
        ValueError: A file is damaged, names a class that is not trusted, or a path outside of the folder.
    """
    options = storage.options_of(trust_remote_code, model_kwargs, processor_kwargs, config_kwargs, backend)
    card, listing = storage.text_of(folder / "README.md"), folder / MODULES_FILE
    settings = storage.settings_in(folder)
    kind = settings.get("model_type")
    if listing.exists() and (kind == MODEL_TYPE or ".sparse_encoder." in listing.read_text(encoding="utf8")):
        reader = SparseModuleReader(folder, listing, trust_remote_code, options)
        modules, kwargs = storage.listed_modules(reader)
        return StoredModel(modules, kwargs, read_settings_of(folder, settings), card)
    if listing.exists() and kind not in OTHER_FAMILIES:
        dense = storage.load(
            folder, trust_remote_code, model_kwargs, processor_kwargs, config_kwargs, backend
        )
        if (folder / BGE_M3_FILE).exists():
            return _of_bge_m3(folder, dense)
        size = output_dimension([*dense.modules.values()])
        if size is None:
            raise ValueError(
                f"No module of the model in {folder} says how large its embeddings are, so that no SparseAutoEncoder can follow. "
                "Pass `modules=[..., SparseAutoEncoder(input_dim=...)]`."
            )
        _warn_of_new(folder, kind or "SentenceTransformer")
        dense.modules[str(len(dense.modules))] = SparseAutoEncoder(
            size, 4 * size, max(1, size // 4), size // 2
        )
        dense.card = None  # it tells of the dense model
        return dense
    storage.refuse_no_transformers(folder, f"{MODULES_FILE} (a saved SparseEncoder or SentenceTransformer)")
    return StoredModel(_default_modules(folder, options), card=None if listing.exists() else card)


def _of_bge_m3(folder: Path, dense: StoredModel) -> StoredModel:
    """The Transformer of BGE-M3's folder with the sparse layer that lies beside it, for dot products."""
    transformer: Any = next(iter(dense.modules.values()))
    settings = {name: value for name, value in dense.settings.items() if name != "similarity_fn_name"}
    weights = LexicalWeights.of_bge_m3(folder, transformer.config.vocab_size)
    return StoredModel({"0": transformer, "1": weights}, settings=settings)


def _warn_of_new(folder: Path, kind: str) -> None:
    logger.warning(
        "%s holds a %s, which gives dense embeddings: a new SparseAutoEncoder is put behind it. Train it (with CSRLoss, say) "
        "before you trust what it gives.",
        folder,
        kind,
    )


def _default_modules(folder: Path, options: Mapping[str, Any]) -> dict[str, nn.Module]:
    """A transformers folder: a masked language model with SpladePooling, or mean pooling and a new SparseAutoEncoder."""
    config = storage.settings_in(folder, "config.json")
    if str((config.get("architectures") or [""])[0]).endswith("ForMaskedLM"):
        mlm = MLMTransformer(str(folder), **options)
        return {"0": mlm, "1": SpladePooling("max", embedding_dimension=mlm.get_word_embedding_dimension())}
    transformer = Transformer(str(folder), **options)
    size = transformer.get_word_embedding_dimension()
    _warn_of_new(folder, "transformers model")
    k = min(256, size)
    encoder = SparseAutoEncoder(size, 4 * size, k, min(512, 4 * size))
    return {"0": transformer, "1": Pooling(size, "mean"), "2": encoder}


def read_settings_of(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What config_sentence_transformers.json says, as far as it is known here.

    Raises:
        ValueError: A setting is not of its type.
    """
    return storage.read_model_settings(folder, settings, OWN_KINDS)


def check_modules(model: nn.Module) -> None:
    """Refuse SpladePooling behind a plain Transformer, whose entries would stand for no words.

    Raises:
        ValueError: It is so.
    """
    kinds = {type(module) for module in model.modules()}
    if SpladePooling in kinds and Transformer in kinds:
        raise ValueError(
            "SpladePooling pools the logits of a vocabulary, but a Transformer gives token embeddings. Put "
            "`likewise.sparse_encoder.modules.MLMTransformer(name)` in its place."
        )
