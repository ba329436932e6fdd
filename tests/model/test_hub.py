"""Uploading a model: what arrives is what is saved, a lost connection is tried again, nothing here is touched."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Hub, digests
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from small import small_model_folder

from likewise import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)

# huggingface_hub's own use of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    folder = small_model_folder(tmp_path_factory.mktemp("model") / "bert")
    made = SentenceTransformer(folder, device="cpu", prompts={"query": "find "})
    made.encode("a cat")  # a tokenizer in use is saved with its limit
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their path within it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("safe", [True, False])
def test_what_arrives_is_what_is_saved(
    model: SentenceTransformer, hub: Hub, tmp_path: Path, safe: bool
) -> None:
    url = model.push_to_hub("me/mine", token=TOKEN, safe_serialization=safe)
    model.save_pretrained(str(tmp_path), model_name="me/mine", safe_serialization=safe)
    assert digests(hub.files("me/mine")) == digests(contents(tmp_path))
    assert b'SentenceTransformer("me/mine")' in hub.files("me/mine")["README.md"]
    assert url.startswith(f"{hub.url}/me/mine/commit/")
    assert hub.repositories["me/mine"].commits == [("main", "Add new SentenceTransformer model", "")]
    assert not hub.repositories["me/mine"].private


def test_what_was_uploaded_loads_and_embeds_the_same(
    model: SentenceTransformer, hub: Hub, tmp_path: Path
) -> None:
    model.push_to_hub("me/mine", token=TOKEN)
    for path, content in hub.files("me/mine").items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert again.prompts == model.prompts
    assert (again.encode("a cat sees") == model.encode("a cat sees")).all()


def test_the_model_here_is_not_touched(model: SentenceTransformer, hub: Hub) -> None:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    model.model_card_data.model_id = None
    model.push_to_hub("me/mine", token=TOKEN)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert model.model_card_data.model_id is None


def test_name_visibility_and_message_are_the_callers(model: SentenceTransformer, hub: Hub) -> None:
    model.push_to_hub("mine", token=TOKEN, private=True, commit_message="First try")
    assert hub.repositories["me/mine"].private
    assert hub.repositories["me/mine"].commits[0][1] == "First try"


def test_a_repository_that_exists_is_refused_unless_it_may(model: SentenceTransformer, hub: Hub) -> None:
    model.push_to_hub("me/mine", token=TOKEN)
    with pytest.raises(HfHubHTTPError, match="409"):
        model.push_to_hub("me/mine", token=TOKEN)
    assert len(hub.repositories["me/mine"].commits) == 1
    model.push_to_hub("me/mine", token=TOKEN, exist_ok=True)
    assert len(hub.repositories["me/mine"].commits) == 2


def test_a_card_that_is_there_stays_unless_it_is_to_be_replaced(
    model: SentenceTransformer, hub: Hub, tmp_path: Path
) -> None:
    model.push_to_hub("me/mine", token=TOKEN)
    hub.files("me/mine")["README.md"] = b"written by hand"
    model.push_to_hub("me/mine", token=TOKEN, exist_ok=True)
    assert hub.files("me/mine")["README.md"] == b"written by hand"
    model.save_pretrained(str(tmp_path))
    model.push_to_hub("me/mine", token=TOKEN, exist_ok=True, local_model_path=str(tmp_path))
    assert hub.files("me/mine")["README.md"] == b"written by hand"
    model.push_to_hub("me/mine", token=TOKEN, exist_ok=True, replace_model_card=True)
    assert b"# SentenceTransformer" in hub.files("me/mine")["README.md"]


def test_a_card_that_cannot_be_looked_for_is_not_overwritten(
    model: SentenceTransformer, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.refuse, hub.status = "HEAD .*README.md", 403
    with caplog.at_level(logging.WARNING, logger="likewise"):
        model.push_to_hub("me/mine", token=TOKEN)
    assert "could not be found out" in caplog.text
    assert "README.md" not in hub.files("me/mine")
    assert "model.safetensors" in hub.files("me/mine")


def test_a_folder_goes_up_in_place_of_the_model(model: SentenceTransformer, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("a")
    model.push_to_hub("me/mine", token=TOKEN, local_model_path=str(tmp_path))
    assert hub.files("me/mine") == {"sub/a.txt": b"a"}
    with pytest.raises(NotADirectoryError, match="`local_model_path` must be a folder"):
        model.push_to_hub("me/other", token=TOKEN, local_model_path=str(tmp_path / "none"))
    assert "me/other" not in hub.repositories


def test_a_branch_is_made_and_filled(model: SentenceTransformer, hub: Hub) -> None:
    model.push_to_hub("me/mine", token=TOKEN, revision="trial")
    model.push_to_hub("me/mine", token=TOKEN, revision="trial", exist_ok=True)
    assert hub.files("me/mine", "main") == {}
    assert "modules.json" in hub.files("me/mine", "trial")


def test_a_pull_request_is_opened_and_its_address_returned(model: SentenceTransformer, hub: Hub) -> None:
    model.push_to_hub("me/mine", token=TOKEN)
    url = model.push_to_hub("me/mine", token=TOKEN, create_pr=True)
    assert url == f"{hub.url}/me/mine/discussions/1"
    target, _, description = hub.repositories["me/mine"].commits[-1]
    assert target == "refs/pr/1"
    assert "(1): Pooling" in description
    with pytest.raises(ValueError, match="Drop `revision` or `create_pr`"):
        model.push_to_hub("me/mine", token=TOKEN, create_pr=True, revision="trial")


@pytest.mark.slow
def test_a_graph_goes_up_alone(
    model: SentenceTransformer, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    model.save(tmp_path)
    model.push_to_hub("me/mine", token=TOKEN)
    before = hub.files("me/mine").copy()
    graph = SentenceTransformer(str(tmp_path), device="cpu", backend="onnx")
    export_optimized_onnx_model(graph, "O2", "me/mine", push_to_hub=True)
    export_optimized_onnx_model(graph, "O2", str(tmp_path))
    added = {"onnx/model_O2.onnx": (tmp_path / "onnx" / "model_O2.onnx").read_bytes()}
    assert digests(hub.files("me/mine")) == digests(before | added)
    export_dynamic_quantized_onnx_model(graph, "avx2", "me/mine", push_to_hub=True, create_pr=True)
    target, message, description = hub.repositories["me/mine"].commits[-1]
    assert (target, message) == ("refs/pr/1", "Add onnx/model_quint8_avx2.onnx")
    assert 'model_kwargs={"file_name": "model_quint8_avx2.onnx"}' in description
    assert set(hub.files("me/mine", target)) == {*before, *added, "onnx/model_quint8_avx2.onnx"}


def test_names_of_training_data_are_told_in_the_card(model: SentenceTransformer, hub: Hub) -> None:
    model.push_to_hub("me/mine", token=TOKEN, train_datasets=["my letters"])
    assert b"    - my letters" in hub.files("me/mine")["README.md"]
    model.model_card_data.train_datasets = []


@pytest.mark.parametrize("answer_lost", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize(
    "request_", ["POST .*branch", "HEAD .*README", "POST .*preupload", "PUT .*objects", "POST .*commit"]
)
def test_a_lost_connection_is_tried_again_and_reported(
    model: SentenceTransformer,
    hub: Hub,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    request_: str,
    answer_lost: bool,
) -> None:
    hub.drop, hub.drops, hub.answer_lost = request_, 1, answer_lost
    with caplog.at_level(logging.WARNING):
        model.push_to_hub("me/mine", token=TOKEN, revision="trial")
    assert hub.drops == 0
    model.save_pretrained(str(tmp_path), model_name="me/mine")
    assert digests(hub.files("me/mine", "trial")) == digests(contents(tmp_path))
    assert "The connection was lost" in caplog.text or "Retrying" in caplog.text


def test_a_connection_that_stays_lost_ends_in_one_clear_error(model: SentenceTransformer, hub: Hub) -> None:
    hub.drop, hub.drops = "POST .*commit", 99
    with pytest.raises(
        ConnectionError, match=r"lost 3 times while uploading to me/mine .* The local model is as it was"
    ):
        model.push_to_hub("me/mine", token=TOKEN)
    assert hub.files("me/mine") == {}
    hub.drops = 0
    model.push_to_hub("me/mine", token=TOKEN, exist_ok=True)
    assert "modules.json" in hub.files("me/mine")


def test_a_refusal_is_not_tried_again(model: SentenceTransformer, hub: Hub) -> None:
    with pytest.raises(HfHubHTTPError, match="401"):
        model.push_to_hub("me/mine", token="hf_wrong")
    assert hub.requests.count("POST /api/repos/create") == 1


def test_a_server_that_is_not_well_is_tried_again(model: SentenceTransformer, hub: Hub) -> None:
    hub.refuse, hub.status = "POST .*create", 503
    with pytest.raises(ConnectionError, match="creating me/mine"):
        model.push_to_hub("me/mine", token=TOKEN)
    assert hub.requests.count("POST /api/repos/create") == 3


def test_offline_is_no_lost_connection(
    model: SentenceTransformer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(Exception, match="offline mode is enabled"):
        model.push_to_hub("me/mine", token=TOKEN)
    assert hub.requests == []


def test_the_older_name_uploads_too(
    model: SentenceTransformer, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    model.save_to_hub("mine", "me", token=TOKEN)
    assert "modules.json" in hub.files("me/mine")
    assert "`save_to_hub` is deprecated" in caplog.text
    with pytest.raises(ValueError, match="Drop `organization`"):
        model.save_to_hub("you/mine", "me", token=TOKEN)


@pytest.mark.parametrize("answer_lost", [False, True])
def test_making_a_repository_is_tried_again_where_the_answer_was_lost(
    model: SentenceTransformer, hub: Hub, answer_lost: bool
) -> None:
    hub.drop, hub.drops, hub.answer_lost = "POST .*create", 1, answer_lost
    model.push_to_hub("me/mine", token=TOKEN)
    assert "modules.json" in hub.files("me/mine")


def test_a_repository_with_files_is_no_repository_that_was_just_made(
    model: SentenceTransformer, hub: Hub
) -> None:
    model.push_to_hub("me/mine", token=TOKEN)
    before = dict(hub.files("me/mine"))
    hub.drop, hub.drops = "POST .*create", 1
    with pytest.raises(HfHubHTTPError, match="409"):
        model.push_to_hub("me/mine", token=TOKEN)
    assert hub.files("me/mine") == before
