"""CrossEncoders on a Hub of one's own: what is uploaded is what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cross_common import pairs_of_texts, reranker_folder
from hub_server import TOKEN, Hub

from likewise import CrossEncoder

# huggingface_hub's own use of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_what_is_uploaded_scores_the_same(hub: Hub, tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu")
    url = model.push_to_hub("me/mine", token=TOKEN, private=True)
    assert url.startswith(f"{hub.url}/me/mine/commit/")
    assert hub.repositories["me/mine"].private
    assert hub.repositories["me/mine"].commits == [("main", "Add new CrossEncoder model", "")]
    (tmp_path / "b").mkdir()
    for path, content in hub.files("me/mine").items():
        (tmp_path / "b" / path).write_bytes(content)
    pairs = pairs_of_texts(5)
    again = CrossEncoder(tmp_path / "b", device="cpu")
    np.testing.assert_array_equal(again.predict(pairs), model.predict(pairs))


def test_a_folder_may_be_uploaded_in_its_place(hub: Hub, tmp_path: Path) -> None:
    model = CrossEncoder(reranker_folder(tmp_path / "a"), device="cpu")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "note.txt").write_text("a note")
    model.push_to_hub("me/mine", token=TOKEN, local_model_path=tmp_path / "b", commit_message="A note")
    assert set(hub.files("me/mine")) == {"note.txt"}
