"""Uploading models to the Hub: what is sent is what is saved, and a lost connection is tried again."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from likewise.hub import is_lost

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

CARD_FILE = "README.md"
WAITS_S = (1.0, 4.0, 15.0)  # before each further attempt
CONFLICT = 409
FILES_OF_NEW = {".gitattributes"}  # which the Hub puts into a new repository


def push(
    self: Any,
    repo_id: str,
    token: str | None = None,
    private: bool | None = None,
    safe_serialization: bool = True,
    commit_message: str | None = None,
    local_model_path: str | os.PathLike[str] | None = None,
    exist_ok: bool = False,
    replace_model_card: bool = False,
    train_datasets: list[str] | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a model to the Hub. A lost connection is tried again; the model here is not touched.

    Args:
        self: The model; this is its method `push_to_hub`.
        repo_id: `name` or `organisation/name`.
        token: Access token; None for the one that is logged in.
        private: Whether a new repository is private; None for the owner's usual choice.
        safe_serialization: Whether weights are written as safetensors.
        commit_message: Of the upload.
        local_model_path: A folder to upload instead of this model, as it is.
        exist_ok: Whether the repository may exist already.
        replace_model_card: Whether a README.md that the repository has is replaced.
        train_datasets: Names of the training data, for the card, where it does not know any.
        revision: The branch to upload to; made if it does not exist.
        create_pr: Whether to open a pull request instead of a commit.

    Returns:
        The address of the commit or pull request.

    Raises:
        ConnectionError: The Hub could not be reached, at several attempts.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused: the repository exists, or the token has no access.
        ValueError: `create_pr` goes with `revision`.
    """
    from huggingface_hub import HfApi

    if create_pr and revision not in (None, "main"):
        raise ValueError(
            f"A pull request goes against the main branch, but `revision` is {revision!r}. Drop `revision` or `create_pr`."
        )
    if local_model_path is not None and not Path(local_model_path).is_dir():
        raise NotADirectoryError(
            f"`local_model_path` must be a folder, but is {str(local_model_path)!r}. Check the path."
        )
    api = HfApi(token=token)
    repo_id = _create(api, repo_id, private, exist_ok or create_pr)
    if revision is not None:
        branch = partial(api.create_branch, repo_id, branch=revision, exist_ok=True)
        with_retries(branch, f"creating the branch {revision}")
    keeps_card = not replace_model_card and _has_card(api, repo_id, revision)
    kind = type(self).__name__
    with TemporaryDirectory() as temporary:
        if local_model_path is None:
            known = self.model_card_data.model_id
            self.model_card_data.set_model_id(repo_id)  # with a card that names the repository
            try:
                self.save(
                    temporary,
                    create_model_card=not keeps_card,
                    train_datasets=train_datasets,
                    safe_serialization=safe_serialization,
                )
            finally:
                self.model_card_data.model_id = known
        commit = upload(
            api, repo_id, local_model_path or temporary, commit_message or f"Add new {kind} model",
            ignore=[CARD_FILE] if keeps_card else (), revision=revision, create_pr=create_pr,
            commit_description=f"A {kind}, saved by Likewise:\n```\n{self}\n```" if create_pr else None,
        )  # fmt: skip
    return str(commit.pr_url if create_pr else commit.commit_url)


def save_to_hub(self: Any, repo_id: str, organization: str | None = None, *args: Any, **kwargs: Any) -> str:
    """The older name of `push_to_hub`.

    Args:
        self: The model; this is its method `save_to_hub`.
        repo_id: `name` or `organisation/name`.
        organization: The organisation, if it is not in `repo_id`.
        *args: Of `push_to_hub`, from `token` on.
        **kwargs: Of `push_to_hub`.

    Raises:
        ValueError: `organization` is not the one in `repo_id`.
    """
    logger.warning('`save_to_hub` is deprecated; call `push_to_hub("organisation/name")`.')
    if organization is not None and not repo_id.startswith(f"{organization}/"):
        if "/" in repo_id:
            raise ValueError(
                f"`organization` is {organization!r}, but `repo_id` is {repo_id!r}. Drop `organization`."
            )
        repo_id = f"{organization}/{repo_id}"
    return str(self.push_to_hub(repo_id, *args, **kwargs))


def _create(api: Any, repo_id: str, private: bool | None, exist_ok: bool) -> str:
    """Make a repository, and return its full name.

    Where the answer to an attempt was lost, the next one finds the repository that the first has made: an empty one is
    taken for that.
    """
    from huggingface_hub.errors import HfHubHTTPError

    attempts = count(1)

    def create() -> str:
        attempt = next(attempts)
        try:
            return str(api.create_repo(repo_id, private=private, exist_ok=exist_ok).repo_id)
        except HfHubHTTPError as error:
            if attempt == 1 or getattr(error.response, "status_code", 0) != CONFLICT:
                raise
            made = str(api.create_repo(repo_id, private=private, exist_ok=True).repo_id)
            if not set(api.list_repo_files(made)) <= FILES_OF_NEW:
                raise
            return made

    return with_retries(create, f"creating {repo_id}")


def _has_card(api: Any, repo_id: str, revision: str | None) -> bool:
    """Whether the repository has a model card; where that cannot be known it is taken to have one, so that none is lost."""
    try:
        look = partial(api.file_exists, repo_id, CARD_FILE, revision=revision)
        return bool(with_retries(look, f"looking for {CARD_FILE}"))
    except Exception as error:
        logger.warning(
            "Whether %s has a %s could not be found out (%s); none is uploaded.", repo_id, CARD_FILE, error
        )
        return True


def upload(
    api: Any,
    repo_id: str,
    folder: str | os.PathLike[str],
    commit_message: str,
    ignore: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Upload a folder by huggingface_hub's HfApi, again if the connection is lost; what arrived before is not sent twice."""
    options |= {"commit_message": commit_message, "ignore_patterns": list(ignore) or None}
    send = partial(api.upload_folder, repo_id=repo_id, folder_path=folder, **options)
    return with_retries(send, f"uploading to {repo_id}")


def with_retries(action: Callable[[], Answer], what: str) -> Answer:
    """Do something over the network, again after a while where the connection is lost or the Hub is not well.

    Args:
        action: What to do.
        what: How messages call it.
    """
    for attempt, wait in enumerate((*WAITS_S, None), 1):
        try:
            return action()
        except Exception as error:
            if not is_lost(error):
                raise
            lines = str(error).strip().splitlines()
            told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
            if wait is None:
                raise ConnectionError(
                    f"The connection was lost {attempt} times while {what} ({told}). The local model is as "
                    "it was; do it again when the Hub can be reached."
                ) from error
            logger.warning("The connection was lost while %s (%s); trying again in %g s.", what, told, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")
