"""Files of models, from folders and from the Hub; files from anywhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.request import urlopen

TIMED_OUT, TOO_MANY = 408, 429  # of the server's answers, those for which waiting helps

__all__ = ["http_get", "is_sentence_transformer_model", "load_dir_path", "load_file_path"]

TIMEOUT_S = 60.0  # without a single byte


def is_sentence_transformer_model(
    model_name_or_path: str,
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> bool:
    """Whether a folder or a repository on the Hub holds a saved SentenceTransformer: it has a modules.json.

    Raises:
        OSError: The Hub cannot tell (there is no connection, or no access).
    """
    how = (token, cache_folder, revision, local_files_only)
    return load_file_path(model_name_or_path, "modules.json", "", *how) is not None


def load_file_path(
    model_name_or_path: str | Path,
    filename: str | Path,
    subfolder: str = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """The path of a model's file, downloaded where the model is on the Hub; None where there is no such file.

    Args:
        model_name_or_path: A folder or a name on the Hub.
        filename: The file.
        subfolder: The folder that it is in, inside of the model.
        token: The access token for the Hub.
        cache_folder: Where downloads are kept; None for Hugging Face's usual place.
        revision: A branch, tag or commit.
        local_files_only: Whether only what was downloaded before may be used.

    Raises:
        ValueError: The path leads out of the model.
        OSError: The Hub cannot tell (there is no connection, or no access).
    """
    inside = _inside(Path(subfolder, filename))
    if Path(model_name_or_path).is_dir():
        path = Path(model_name_or_path, inside)
        return str(path) if path.exists() else None
    from huggingface_hub import hf_hub_download

    options: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_folder}
    options["local_files_only"] = local_files_only
    return _found(lambda: hf_hub_download(str(model_name_or_path), inside.as_posix(), **options))


def load_dir_path(
    model_name_or_path: str | Path,
    subfolder: str | Path = "",
    token: bool | str | None = None,
    cache_folder: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """The path of a model's folder, downloaded where the model is on the Hub; None where there is no such folder.

    Arguments and errors as for `load_file_path`.
    """
    inside = _inside(Path(subfolder))
    if Path(model_name_or_path).is_dir():
        path = Path(model_name_or_path, inside)
        return str(path) if path.is_dir() else None
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_folder}
    options["local_files_only"] = local_files_only
    patterns = None if inside == Path() else f"{inside.as_posix()}/**"
    whole = _found(lambda: snapshot_download(str(model_name_or_path), allow_patterns=patterns, **options))
    if whole is None or not Path(whole, inside).is_dir():
        return None
    return str(Path(whole, inside))


def http_get(url: str, path: str | os.PathLike[str]) -> None:
    """Download a file, with a progress bar. The folder is made if it does not exist; a file is there whole or not at all.

    Raises:
        OSError: The server refuses (`urllib.error.HTTPError`), is not reached or sends nothing for a minute
            (`TimeoutError`), or the file cannot be written.
    """
    from tqdm.auto import tqdm

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}_part")
    try:
        with urlopen(url, timeout=TIMEOUT_S) as response, unfinished.open("wb") as file:
            size = response.headers.get("Content-Length")
            total = int(size) if size else None
            with tqdm.wrapattr(file, "write", total=total, desc=target.name, leave=False) as counted:
                shutil.copyfileobj(response, counted)
            if total is not None and file.tell() != total:
                raise OSError(f"{url} broke off after {file.tell()} of {total} bytes. Try again.")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def is_lost(error: BaseException) -> bool:
    """Whether an error comes from the connection, or from a server that is not well, so that waiting may help.

    The error may be wrapped in others, as huggingface_hub wraps those of large files.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", 0)
        return status >= 500 or status in (TIMED_OUT, TOO_MANY)
    # The name that httpx gives what huggingface_hub does not wrap; which httpx that is depends on its version.
    is_transport = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
    if is_transport or isinstance(error, ConnectionError | TimeoutError):
        return True
    return error.__cause__ is not None and is_lost(error.__cause__)


def leads_out(name: str) -> bool:
    """Whether a path, read as on any system, would leave the folder that it is looked for in."""
    windows = PureWindowsPath(name)  # of which `/` and `\\` lead elsewhere
    return bool(windows.anchor) or ".." in windows.parts


def _inside(path: Path) -> Path:
    """A path that stays inside of a model, on any system; one that leads out is refused."""
    if path.is_absolute() or leads_out(str(path)) or ".." in path.parts:
        raise ValueError(f"{path} leads out of the model. Pass a path inside of its folder.")
    return path


def _found(download: Callable[[], Any]) -> str | None:
    """The path of a download; None where the Hub, or what was downloaded before, has no such thing."""
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(download())
    except (EntryNotFoundError, HFValidationError, LocalEntryNotFoundError):
        return None
