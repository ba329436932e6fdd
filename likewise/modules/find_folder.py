"""The folder of a model: on disk already, or downloaded from the Hub."""

from __future__ import annotations

import os
from pathlib import Path

HUB_ORGANISATION = "sentence-transformers"  # where a bare name is looked for first
OTHER_FRAMEWORKS = (
    "onnx/*",
    "openvino/*",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx",
    "*.tflite",
    "*.mlmodel",
    "coreml/*",
)


def find_folder(
    name_or_path: str | os.PathLike[str],
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    token: bool | str | None = None,
) -> Path:
    """The folder of a model, downloaded from the Hub where it is not one already.

    Args:
        name_or_path: A folder, a Hub name, or a bare name (looked for under `sentence-transformers/` first).
        cache_folder: Where downloads are kept; None for Hugging Face's usual place.
        revision: A branch, tag or commit.
        local_files_only: Whether only what was downloaded before may be used.
        token: The access token for the Hub.

    Raises:
        NotADirectoryError: The path is a file.
        FileNotFoundError: There is no such folder, and no such model on the Hub (or it cannot be reached).
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    name = os.fspath(name_or_path)
    if path.is_file():
        raise NotADirectoryError(
            f"{name} is a file; expected the folder of a model. Pass {path.parent} instead?"
        )
    if (
        path.is_absolute()
        or name.count("/") > 1
        or name.startswith((".", "~"))
        or (os.sep == "\\" and "\\" in name)
    ):
        raise FileNotFoundError(f"There is no folder {name}. Check the path, or pass a name on the Hub.")
    cache_folder = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    names = [name] if "/" in name else [f"{HUB_ORGANISATION}/{name}", name]
    problems = []
    for candidate in names:
        try:
            return _download(candidate, cache_folder, revision, local_files_only, token)
        except OSError as error:  # huggingface_hub's errors are OSErrors, those of the connection too
            problems.append(f"{candidate}: {str(error).splitlines()[0]}")
    raise FileNotFoundError(
        f"There is no folder {name!r}, and it could not be had from the Hub either ({'; '.join(problems)}). "
        "Check the spelling, log in with `hf auth login` if it is private, or go online."
    )


def _download(
    name: str,
    cache_folder: str | None,
    revision: str | None,
    local_files_only: bool,
    token: bool | str | None,
) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    ignored = list(OTHER_FRAMEWORKS)
    if not (local_files_only or constants.HF_HUB_OFFLINE):
        files = HfApi(token=token).list_repo_files(name, revision=revision)
        if any(file.endswith(".safetensors") for file in files):
            ignored.append("*.bin")
    return Path(
        snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_folder,
            local_files_only=local_files_only,
            token=token,
            ignore_patterns=ignored,
        )
    )
