"""likewise.util: the reference's functions give here what they give there, and say what was wrong."""

from __future__ import annotations

import inspect
import logging
import pickle
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from datasets import Dataset, DatasetDict, is_caching_enabled
from hub_server import TOKEN, Hub, Repository, running_hub
from huggingface_hub import constants
from sentence_transformers import util as theirs
from small import small_model_folder
from torch import Tensor

import likewise
from likewise import SentenceTransformer, losses, util
from likewise.model import storage
from likewise.modules import Transformer, device

NOT_HERE = {
    # Private, or about other kinds of models, or of no use without their surroundings.
    "ORIGINAL_TRANSFORMER_MODELS", "_convert_to_batch", "_convert_to_batch_tensor", "_convert_to_tensor",
    "_move_tensors_to_cpu", "disabled_tqdm", "save_to_hub_args_decorator",
}  # fmt: skip


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small saved model."""
    work = tmp_path_factory.mktemp("model")
    SentenceTransformer(str(small_model_folder(work / "plain")), device="cpu").save_pretrained(work / "saved")
    return str(work / "saved")


def test_every_function_of_the_reference_is_here_with_its_arguments() -> None:
    assert set(theirs.__all__) - set(util.__all__) == NOT_HERE
    for name in sorted(set(theirs.__all__) - NOT_HERE):
        here, there = getattr(util, name), getattr(theirs, name)
        if inspect.isfunction(there):
            missing = inspect.signature(there).parameters.keys() - inspect.signature(here).parameters.keys()
            # `similarity_fct_name` and the like are called with their one argument in its place.
            assert not missing or len(inspect.signature(there).parameters) == 1, (name, missing)


def test_every_similarity_function_has_the_references_name_and_its_functions() -> None:
    ours, theirs_too = util.SimilarityFunction, theirs.SimilarityFunction
    assert {one.name: one.value for one in ours} == {one.name: one.value for one in theirs_too}
    assert ours.possible_values() == theirs_too.possible_values()
    for name in ours.possible_values():
        for way in ("to_similarity_fn", "to_similarity_pairwise_fn"):
            function = getattr(ours, way)(name)
            assert function.__name__ == getattr(theirs_too, way)(name).__name__
            assert function is getattr(util, function.__name__)


@pytest.mark.parametrize("texts", ["a cat", ["a cat"], np.array(["a cat"])])
def test_texts_in_the_place_of_embeddings_are_told_apart(texts: Any) -> None:
    for call in (util.cos_sim, util.pairwise_dot_score, util.semantic_search):
        with pytest.raises(TypeError, match=r"Expected embeddings, but got texts \(.*a cat.*`model.encode"):
            call(texts, texts)


@pytest.mark.parametrize("layout", [Tensor.clone, Tensor.to_sparse])
def test_embeddings_that_do_not_fit_each_other_are_refused_by_their_shapes(
    layout: Callable[[Tensor], Tensor],
) -> None:
    of_four, of_two = layout(torch.eye(3, 4)), layout(torch.eye(3, 2))
    for name in ("cos", "dot", "euclidean", "manhattan"):
        pair = next(name + end for end in ("_sim", "_score") if hasattr(util, name + end))
        with pytest.raises(ValueError, match=r"shapes \(3, 4\) and \(3, 2\) cannot be compared\. Embed both"):
            getattr(util, pair)(of_four, of_two)
        with pytest.raises(ValueError, match=r"shapes \(3, 4\) and \(2, 4\) cannot be compared row by row\."):
            getattr(util, f"pairwise_{pair}")(of_four, layout(torch.eye(2, 4)))
    assert util.pairwise_cos_sim(of_four, layout(torch.eye(1, 4))).tolist() == [1, 0, 0]


def test_angles_of_sparse_embeddings_are_those_of_dense_ones() -> None:
    rows = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) * (torch.arange(5) % 2)
    others, expected = rows.flip(0), util.pairwise_angle_sim(rows, rows.flip(0))
    assert torch.equal(util.pairwise_angle_sim(rows.to_sparse(), others.to_sparse()), expected)
    assert torch.equal(util.pairwise_angle_sim(list(rows.to_sparse()), others), expected)


@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_axes_in_front_are_batches_that_must_fit(name: str) -> None:
    rows = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    compare, pairwise = getattr(util, name), getattr(util, f"pairwise_{name}")
    for others in (rows.flip(1), rows[1]):
        expected = [compare(one, other) for one, other in zip(rows, others.expand(2, -1, -1), strict=True)]
        torch.testing.assert_close(compare(rows, others), torch.stack(expected))
    for wrong in (torch.eye(5, 4).expand(3, 5, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"shapes \(2, 3, 4\) and .* cannot be compared\. Embed both"):
            compare(rows, wrong)
        with pytest.raises(ValueError, match=r"shapes \(2, 3, 4\) and .* cannot be compared row by row"):
            pairwise(rows, wrong)
    with pytest.raises(ValueError, match=r"shapes \(\) and \(\) cannot be compared"):
        compare(torch.tensor(1.0), torch.tensor(2.0))


@pytest.mark.parametrize("name", ["cos_sim", "dot_score", "euclidean_sim", "manhattan_sim"])
def test_float32_is_compared_with_float64(name: str) -> None:
    rows = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    for kind in ("", "pairwise_"):
        compare = getattr(util, f"{kind}{name}")
        for found in (compare(rows, rows.double().numpy()), compare(rows.double().numpy(), rows)):
            assert found.dtype == torch.float64
            torch.testing.assert_close(found.float(), compare(rows, rows), atol=1e-3, rtol=1e-6)


def test_token_embeddings_in_the_place_of_those_of_texts_are_told_apart() -> None:
    tokens = [torch.ones(2, 4), torch.ones(3, 4)]
    for texts in (tokens, [one.numpy() for one in tokens]):
        for call in (util.cos_sim, util.semantic_search):
            with pytest.raises(
                ValueError, match=r"but got \[\(2, 4\), \(3, 4\)\]\. Those of tokens, as a MultiV"
            ):
                call(texts, texts)
    for call in (util.maxsim, util.maxsim_pairwise):
        with pytest.raises(
            TypeError, match=r"embeddings of tokens, but got the text 'a cat'\. Embed it first"
        ):
            call(["a cat"], ["a dog"])


@pytest.mark.parametrize("module", ["distributed", "environment", "file_io", "logging", "misc", "tensor"])
def test_the_references_paths_hold_its_names(module: str) -> None:
    here = getattr(__import__(f"likewise.util.{module}").util, module)
    there = getattr(theirs, module)
    for name in util.__all__:
        if getattr(there, name, None) is not None and getattr(there, name).__module__ == there.__name__:
            assert hasattr(here, name), name


# MaxSim


def ragged(count: int, seed: int) -> list[Tensor]:
    lengths = torch.randint(1, 7, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [vectors(length, 8, seed=seed + i) for i, length in enumerate(lengths)]


@pytest.mark.parametrize("chunk_elements", [None, 60])
@pytest.mark.parametrize("length_normalize", [False, True])
def test_maxsim_of_lists_tensors_arrays_and_one_text(
    chunk_elements: int | None, length_normalize: bool
) -> None:
    padded = vectors(4, 5, 8, seed=9)
    padded[1, 3:] = 0
    padded[2] = 0  # a document without tokens
    options: Any = {"chunk_elements": chunk_elements, "length_normalize": length_normalize}
    queries, documents = ragged(5, 0), ragged(7, 50)
    for a, b in (
        (queries, documents),
        (queries, padded),
        (padded, documents),
        (padded.numpy(), [document.numpy() for document in documents]),
        (queries[0], documents),
        (queries, [*documents, torch.zeros(0, 8)]),
        ([query.half() for query in queries], [document.half() for document in documents]),
        ([], documents),
    ):
        found = util.maxsim(a, b, **options)
        expected = theirs.maxsim(a, b, **options)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    pairs = util.maxsim_pairwise(queries, documents[:5], **options)
    torch.testing.assert_close(pairs, theirs.maxsim_pairwise(queries, documents[:5], **options))
    assert util.maxsim_pairwise([], []).shape == (0,)


def test_maxsim_takes_lists_of_numbers_beside_tensors_as_float32() -> None:
    tensors, lists = [torch.eye(2)], [[[1.0, 0.0], [0.0, 1.0]]]
    for a, b in ((tensors, lists), (lists, tensors), (lists, lists)):
        assert torch.equal(util.maxsim(a, b), theirs.maxsim(a, b))
        assert util.maxsim_pairwise(a, b).tolist() == [2.0]
    assert util.maxsim(lists, tensors, a_mask=[[1, 0]]).tolist() == [[1.0]]


def test_maxsim_with_masks_and_means() -> None:
    a, b = vectors(3, 5, 8), vectors(4, 6, 8, seed=1)
    a_mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0.5, 1, 1, 2], [1, 0, 0, 0, 0]])
    b_mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0]])
    for name in ("maxsim", "mean_maxsim"):
        found = getattr(util, name)(a, b, a_mask, b_mask)
        torch.testing.assert_close(found, getattr(theirs, name)(a, b, a_mask, b_mask))
    found = util.mean_maxsim_pairwise(a, b[:3], list(a_mask), b_mask[:3].numpy())
    torch.testing.assert_close(found, theirs.mean_maxsim_pairwise(a, b[:3], list(a_mask), b_mask[:3].numpy()))
    with pytest.raises(ValueError, match="`a_mask` is for 3 texts of up to 4 tokens"):
        util.maxsim(a, b, a_mask[:, :4])
    with pytest.raises(ValueError, match="as many queries as documents, but there are 3 and 4"):
        util.maxsim_pairwise(a, b)


def test_maxsim_has_the_references_gradients() -> None:
    gradients = []
    for maxsim in (util.maxsim, theirs.maxsim):
        a = [tokens.clone().requires_grad_() for tokens in ragged(3, 0)]
        b = [tokens.clone().requires_grad_() for tokens in ragged(4, 9)]
        maxsim(a, b).square().sum().backward()
        gradients.append([each.grad for each in (*a, *b)])
    torch.testing.assert_close(*gradients)


# Tensors


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_changes_to_embeddings_are_the_references() -> None:
    dense = vectors(4, 6) * (vectors(4, 6, seed=1) > 0)
    dense[2] = 0
    sparse = dense.to_sparse()
    torch.testing.assert_close(
        util.normalize_embeddings(sparse).to_dense(), theirs.normalize_embeddings(sparse).to_dense()
    )
    row = dense[0].to_sparse()
    torch.testing.assert_close(
        util.normalize_embeddings(row).to_dense(), theirs.normalize_embeddings(row).to_dense()
    )
    torch.testing.assert_close(util.normalize_embeddings(dense), theirs.normalize_embeddings(dense))
    for embeddings in (dense, sparse, dense[0]):
        assert torch.equal(util.compute_count_vector(embeddings), theirs.compute_count_vector(embeddings))
    for given in (dense, dense.numpy(), dense.tolist()):
        assert torch.equal(util.select_max_active_dims(given, 2), theirs.select_max_active_dims(dense, 2))
    assert util.select_max_active_dims(dense, None) is dense
    with pytest.raises(ValueError, match="at least 1, but is 0"):
        util.select_max_active_dims(dense, 0)
    for kind in (sparse, sparse.bfloat16()):
        np.testing.assert_array_equal(util.to_scipy_coo(kind).toarray(), theirs.to_scipy_coo(kind).toarray())
    batch = {"a": torch.ones(1), "b": "text"}
    assert util.batch_to_device(batch, "meta") is batch
    assert batch["a"].device.type == "meta"


def test_padded_tokens_are_the_references() -> None:
    columns = [vectors(2, 3, 4), vectors(2, 5, 4)]
    masks = [torch.ones(2, 3), torch.ones(2, 5)]
    for name in ("stack_padded_token_embeddings", "cat_padded_token_embeddings"):
        for found, expected in zip(
            getattr(util, name)(columns, masks), getattr(theirs, name)(columns, masks), strict=True
        ):
            assert torch.equal(found, expected)

    def flat() -> dict[str, Any]:
        return {
            "token_embeddings": vectors(1, 9, 4), "input_ids": torch.arange(1, 10)[None],
            "cu_seq_lens_q": torch.tensor([0, 2, 5, 9]), "position_ids": torch.arange(9), "other": "stays",
        }  # fmt: skip

    found, expected = util.repad_flattened_features(flat()), theirs.repad_flattened_features(flat())
    assert found.keys() == expected.keys()
    for key in ("token_embeddings", "input_ids", "attention_mask"):
        assert torch.equal(found[key], expected[key])


# Processes


def in_a_process(rank: int, port: int, folder: str, out: str) -> None:
    """Save what each process sees."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    assert (util.get_rank(), util.get_world_size(), util.is_dist_initialized()) == (rank, 2, True)
    results: dict[str, Any] = {}
    own = vectors(3, 4, seed=rank).requires_grad_()
    weights = torch.arange(24.0).view(6, 4) * (rank + 1)
    for name, gather in (
        ("own", util.all_gather),
        ("all", util.all_gather_with_grad),
        ("their own", theirs.all_gather),
        ("their all", theirs.all_gather_with_grad),
    ):
        gathered = gather(own)
        (gradient,) = torch.autograd.grad((gathered * weights).sum(), own)
        results[name] = (gathered.detach(), gradient)
    tokens, mask = vectors(2, 3 + rank, 4, seed=rank), torch.ones(2, 3 + rank)
    results["padded"] = util.all_gather_padded(tokens, mask)
    results["their padded"] = theirs.all_gather_padded(tokens, mask)
    results["uneven"] = util.all_gather(torch.full((1 + rank,), rank))
    model, texts = SentenceTransformer(folder, device="cpu"), ["a cat", "a dog", "two birds"]
    encoded = []
    model.get_submodule("0").register_forward_hook(lambda *call: encoded.append(call))
    with util.distributed_evaluation(model) as runs:
        assert runs
        results["embeddings"] = torch.from_numpy(model.encode(texts))
        results["halves"] = model.encode(texts, convert_to_tensor=True, precision="float16")
        results["bits"] = torch.from_numpy(model.encode(texts, precision="ubinary"))
        results["list"] = torch.stack(model.encode(texts, convert_to_numpy=False))
    results["alone"] = torch.from_numpy(model.encode(texts))
    with util.distributed_evaluation(model, enabled=False) as runs:
        assert runs
        assert "encode" not in vars(model)
    torch.save(results, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_gather_as_in_the_reference_and_share_an_evaluation(
    tmp_path: Path, folder: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(in_a_process, (port, folder, str(tmp_path)), nprocs=2, start_method="spawn")
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        for name in ("own", "all", "padded"):
            for found, expected in zip(results[name], results[f"their {name}"], strict=True):
                torch.testing.assert_close(found, expected)
        assert results["uneven"].tolist() == [0, 1, 1]
        torch.testing.assert_close(results["embeddings"], results["alone"], rtol=0, atol=1e-6)
        torch.testing.assert_close(results["list"], results["alone"], rtol=0, atol=1e-6)
        assert torch.equal(results["halves"], results["embeddings"].half())
        assert results["bits"].tolist() == np.packbits(results["embeddings"] > 0, axis=1).tolist()


def test_a_single_process_gathers_nothing() -> None:
    tensor = torch.ones(2, 3, 4)
    assert util.all_gather(tensor) is tensor
    assert util.all_gather_padded(tensor, tensor[..., 0])[0] is tensor
    assert (util.get_rank(), util.get_world_size(), util.is_dist_initialized()) == (0, 1, False)


def test_each_process_takes_its_own_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert util.get_device_name() == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert util.get_device_name() == "cuda:3"


# What is installed


def test_packages_and_their_owners() -> None:
    assert util.is_accelerate_available()
    assert util.is_datasets_available()
    assert util.is_training_available()
    assert not util.check_package_availability("datasets", "somebody")
    assert not util.check_package_availability("no-such-package", "huggingface")


@pytest.mark.parametrize("check", [util.check_version_requirements, theirs.check_version_requirements])
def test_requirements_that_are_met_or_not_understood_raise_nothing(
    check: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    check(None)
    check({"pytorch": ">=2", "python": ">=3.10", "transformers": {"specifier": ">=5"}})
    assert not caplog.records
    check({"torch": "as new as can be"}, "a model")
    check({"torch": 2}, "a model")
    check(["torch"], "a model")
    assert len(caplog.records) == 3


@pytest.mark.parametrize("check", [util.check_version_requirements, theirs.check_version_requirements])
def test_requirements_that_are_not_met_are_all_named(check: Callable[..., None]) -> None:
    wanted = {
        "torch": "<2",
        "no-such-package": {"specifier": ">=1", "reason": "It does the work."},
        "python": "<3",
    }
    with pytest.raises(ImportError) as caught:
        check(wanted, "a model")
    for part in (
        "a model",
        "torch<2",
        torch.__version__,
        "no-such-package>=1",
        "It does the work.",
        "python<3",
    ):
        assert part in str(caught.value)
    assert '"python<3"' not in str(caught.value)


def test_a_model_that_needs_another_version_is_not_loaded(folder: str, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / "config_sentence_transformers.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"requirements": {"torch": "<2"}}))
    with pytest.raises(ImportError, match=r"(?s)needs other versions of packages.*torch<2.*pip install"):
        SentenceTransformer(str(tmp_path / "model"), device="cpu")
    path.write_text(json.dumps(settings | {"requirements": {"torch": ">=2"}}))
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    model.save_pretrained(tmp_path / "again")
    assert (
        "requirements" not in (tmp_path / "again" / "config_sentence_transformers.json").read_text()
    )  # as in the reference


def test_the_version_that_is_imported_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert storage._installed("torch") == "1.0"


# Files


def test_files_and_folders_of_a_model_on_disk(folder: str) -> None:
    assert util.is_sentence_transformer_model(folder)
    assert util.load_file_path(folder, "config.json", "1_Pooling") == str(
        Path(folder, "1_Pooling/config.json")
    )
    assert util.load_file_path(folder, "nothing.json") is None
    assert util.load_dir_path(folder, "1_Pooling") == str(Path(folder, "1_Pooling"))
    assert util.load_dir_path(folder, "2_Nothing") is None
    for outside in ("../model", "/etc", "C:\\Windows", "a/../../b", "..\\model"):
        with pytest.raises(ValueError, match="leads out of the model"):
            util.load_file_path(folder, outside)
        with pytest.raises(ValueError, match="leads out of the model"):
            util.load_dir_path(folder, outside)


def test_files_and_folders_of_a_model_on_the_hub(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file()
        }
        hub.repositories["me/mine"] = Repository(private=True, branches={"main": files})
        options: Any = {"token": TOKEN, "cache_folder": str(tmp_path)}
        assert util.is_sentence_transformer_model("me/mine", **options)
        found = util.load_file_path("me/mine", "config.json", "1_Pooling", **options)
        assert found is not None
        assert Path(found).read_bytes() == files["1_Pooling/config.json"]
        assert util.load_file_path("me/mine", "nothing.json", **options) is None
        pooling = util.load_dir_path("me/mine", "1_Pooling", **options)
        assert pooling is not None
        assert [path.name for path in Path(pooling).iterdir()] == ["config.json"]
        assert util.load_dir_path("me/mine", "2_Nothing", **options) is None
        hub.refuse, hub.status = "resolve", 401
        with pytest.raises(OSError, match="401"):
            util.is_sentence_transformer_model("me/mine", cache_folder=str(tmp_path / "other"))
    assert util.load_file_path("me/other", "modules.json", local_files_only=True) is None


def test_a_download_is_whole_or_not_there(
    tmp_path: Path, hub_with_a_file: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{hub_with_a_file.url}/me/open/resolve/main/data.txt"
    util.http_get(url, tmp_path / "new" / "data.txt")
    assert (tmp_path / "new" / "data.txt").read_bytes() == b"data" * 1000
    with pytest.raises(HTTPError, match="404"):
        util.http_get(f"{hub_with_a_file.url}/me/open/resolve/main/none.txt", str(tmp_path / "none.txt"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["data.txt"]
    assert "data.txt" in capsys.readouterr().err


def test_a_download_from_a_server_that_says_nothing_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.hub.TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        util.http_get(f"http://127.0.0.1:{silent.getsockname()[1]}/data.txt", tmp_path / "data.txt")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def hub_with_a_file() -> Any:
    with running_hub() as hub:
        hub.repositories["me/open"] = Repository(branches={"main": {"data.txt": b"data" * 1000}})
        yield hub


# Messages


def test_messages_stand_beside_progress_bars(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("likewise.a_test")
    logger.propagate = False
    util.install_logger(logger, "INFO")
    logger.info("first")
    util.install_logger(logger, logging.WARNING, "%(message)s")
    logger.info("unheard")
    logger.log(25, "unheard too")
    logger.warning("second %s", "time")
    assert capsys.readouterr().out == "INFO:likewise.a_test:first\nsecond time\n"
    assert logging.getLevelName(25) == "NOTICE"
    assert isinstance(logger.handlers[0], likewise.LoggingHandler)
    logger.handlers.clear()


def test_switched_off_messages_come_back(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("likewise.another_test")
    with util.disable_logging(logging.WARNING):
        logger.warning("unheard")
        logger.error("heard")
    logger.warning("heard again")
    assert [record.message for record in caplog.records] == ["heard", "heard again"]


def test_switched_off_caching_comes_back() -> None:
    before = is_caching_enabled()
    with util.disable_datasets_caching():
        assert not is_caching_enabled()
    assert is_caching_enabled() == before


# Names


def test_names_of_classes_and_functions(folder: str) -> None:
    for thing in (torch.nn.Linear, torch.nn.ReLU(), 3, str, "text"):
        assert util.fullname(thing) == theirs.fullname(thing)
    assert util.import_from_string("torch.nn.Linear") is torch.nn.Linear
    for wrong, message in (
        ("Linear", "names no module"),
        ("torch.nn.Nothing", "has no 'Nothing'"),
        ("no.thing", "no"),
    ):
        with pytest.raises(ImportError, match=message):
            util.import_from_string(wrong)
    model = SentenceTransformer(folder, device="cpu")
    for function in (util.cos_sim, partial(util.dot_score, b=3), model.similarity, model.similarity_pairwise):
        assert util.similarity_fct_name(function) == theirs.similarity_fct_name(function)


def test_classes_of_modules_by_every_name_and_only_if_trusted(folder: str) -> None:
    for name in (
        "sentence_transformers.models.Transformer",
        "sentence_transformers.base.modules.transformer.Transformer",
    ):
        assert util.import_module_class(name, folder) is Transformer
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        util.import_module_class("torch.nn.Linear", folder)
    assert util.import_module_class("torch.nn.Linear", folder, trust_remote_code=True) is torch.nn.Linear
    assert util.import_module_class("torch.nn.Linear") is torch.nn.Linear


def test_old_names_of_arguments_are_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    @util.deprecated_kwargs(colour="color")
    def paint(color: str = "none") -> str:
        return color

    assert (paint(colour="red"), paint("blue"), paint(colour="red", color="green")) == (
        "red",
        "blue",
        "green",
    )
    assert caplog.records[0].message == "The argument `colour` is called `color` now."


def test_the_last_row_of_a_csv_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("epoch,score\n")
    assert not util.append_to_last_row(path, [1])
    path.write_text('epoch,score\n1,"a, b"\n2,c\n')
    assert util.append_to_last_row(str(path), [0.5, "d"])
    assert path.read_text().split() == ["epoch,score", '1,"a,', 'b"', "2,c,0.5,d"]


# A teacher's scores


def test_a_temperature_that_is_too_low_is_reported_once(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = SentenceTransformer(folder, device="cpu")
    loss = losses.DistillKLDivLoss(model, teacher_temperature=0.01)
    embeddings = [vectors(2, 4, seed=i) for i in range(3)]
    for _ in range(2):
        loss.compute(embeddings, torch.tensor([[9.0, 1.0], [3.0, 2.9]]))
    (record,) = caplog.records
    assert "1 of 4 documents have a probability of exactly 0" in record.message
    assert "temperature of 0.08 or more" in record.message


def test_scores_that_are_no_numbers_are_refused_and_infinite_ones_are_not(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = SentenceTransformer(folder, device="cpu")
    embeddings = [vectors(2, 4, seed=i) for i in range(3)]
    with pytest.raises(ValueError, match="DistillKLDivLoss got a teacher's score that is NaN"):
        losses.DistillKLDivLoss(model).compute(embeddings, torch.tensor([[1.0, torch.nan], [1.0, 2.0]]))
    value = losses.DistillKLDivLoss(model).compute(embeddings, torch.tensor([[1.0, -torch.inf], [1.0, 2.0]]))
    assert value.isfinite()
    assert not caplog.records


# Ids


QUERIES = {"query_id": ["q1", "q2"], "text": ["a cat", "a dog"]}
DOCUMENTS = {"id": [7, 3, 9, 3], "body": ["cats", "old", "dogs", "birds"], "more": [1, 2, 3, 4]}


def tables() -> tuple[Dataset, Dataset, Dataset]:
    train = {
        "query_id": ["q2", "q1"], "document_ids": [[3, 9, 7], [7, 3, 9]], "best_id": [9, 7],
        "score": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], "noise": [1, 2],
    }  # fmt: skip
    return Dataset.from_dict(train), Dataset.from_dict(QUERIES), Dataset.from_dict(DOCUMENTS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_list_length": 2},
        {"output_format": "lists"},
        {"output_format": "lists", "max_list_length": 1, "keep_columns": ["noise", "score", "none"]},
    ],
)
def test_ids_become_the_references_rows(options: dict[str, Any]) -> None:
    train, queries, documents = tables()
    found = {}
    for side in (util, theirs):
        lookups = {
            "query_id": queries,
            "document_ids": (documents, "id", "body"),
            "best_id": (documents, "id", "body"),
        }
        transform = pickle.loads(pickle.dumps(side.resolve_ids(lookups, **options)))
        seen = Dataset.from_dict(train[:])
        seen.set_transform(transform)
        removed = [name for name in train.column_names if name.endswith(("id", "ids"))]
        mapped = train.map(transform, batched=True, batch_size=1, remove_columns=removed)
        found[side] = (seen[:], list(seen), mapped.to_dict())
    assert found[util] == found[theirs]


def test_lists_that_were_saved_as_texts_are_read() -> None:
    _, queries, documents = tables()
    resolve = util.resolve_ids({"query_id": queries, "document_ids": (documents, "id", "body")})
    batch = {"query_id": ["q1"], "document_ids": ["[3, 9]"], "scores": ["[0.5, 1]"]}
    assert resolve(batch) == {
        "query": ["a cat"], "document_1": ["birds"], "document_2": ["dogs"], "scores": [[0.5, 1]],
    }  # fmt: skip
    with pytest.raises(ValueError, match="starts like a list, but is none"):
        resolve(batch | {"document_ids": ["[3, 9"]})


@pytest.mark.parametrize(
    ("column", "expected"), [("query_ids", "queries"), ("document_ids", "documents"), ("ids", "ids")]
)
def test_lists_have_plural_names(column: str, expected: str) -> None:
    _, queries, _ = tables()
    found = util.resolve_ids({column: queries}, output_format="lists")({column: [["q1"], ["q2", "q1"]]})
    assert found == {expected: [["a cat"], ["a dog", "a cat"]]}
    assert found == theirs.resolve_ids({column: queries}, output_format="lists")(
        {column: [["q1"], ["q2", "q1"]]}
    )


def test_of_rows_with_one_id_the_last_counts_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    _, _, documents = tables()
    resolve = util.resolve_ids({"document_id": (documents, "id", "body")})
    assert "1 rows have an id that a later row has too" in caplog.text
    assert resolve({"document_id": [3]}) == {"document": ["birds"]}


def test_what_cannot_be_resolved_is_refused() -> None:
    train, queries, documents = tables()
    for lookups, options, kind, message in (
        ({"a_id": documents}, {}, ValueError, "value column cannot be told: it may be body, more"),
        ({"a_id": train}, {}, ValueError, "id column cannot be told: it may be query_id, best_id"),
        ({"a_id": (queries, "nothing")}, {}, ValueError, "has no column 'nothing'; it has query_id, text"),
        ({"a_id": (queries, "query_id", "text", "?")}, {}, ValueError, "has 4 parts"),
        ({"a_id": DatasetDict(train=queries)}, {}, TypeError, "is a DatasetDict"),
        ({"a_id": queries}, {"keep_columns": "label"}, TypeError, r"Pass \['label'\]"),
        ({"a_id": queries}, {"max_list_length": 0}, ValueError, "at least 1, but is 0"),
        (
            {"a_id": queries},
            {"output_format": "rows"},
            ValueError,
            "must be 'columns' or 'lists', but is 'rows'",
        ),
    ):
        with pytest.raises(kind, match=message):
            util.resolve_ids(lookups, **options)
    resolve = util.resolve_ids({"query_ids": queries, "query_id": queries}, keep_columns=["query_1"])
    for batch, kind, message in (
        ({"query_ids": [["q1"]], "query_id": ["q3"]}, KeyError, r"no id 'q3' in lookups\['query_id'\]"),
        ({"query_ids": [["q1"], ["q1", "q2"]], "query_id": ["q1", "q1"]}, ValueError, "have 1, 2 entries"),
        ({"query_ids": [["q1"]], "query_id": ["q1"], "query_1": [3]}, ValueError, "would be named 'query_1'"),
        ({"query_ids": {"q1"}, "query_id": ["q1"]}, TypeError, "with_format"),
    ):
        with pytest.raises(kind, match=message):
            resolve(batch)


def test_resolved_rows_train_a_model(folder: str, tmp_path: Path) -> None:
    train, queries, documents = tables()
    train = train.remove_columns(["document_ids", "score", "noise"])
    train.set_transform(util.resolve_ids({"query_id": queries, "best_id": (documents, "id", "body")}))
    model = SentenceTransformer(folder, device="cpu")
    arguments = likewise.SentenceTransformerTrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=2,
        max_steps=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = likewise.SentenceTransformerTrainer(
        model, arguments, train, loss=losses.MultipleNegativesRankingLoss(model)
    )
    trainer.train()
    assert trainer.state.global_step == 2


def test_tuples_of_ids_count_as_lists_and_formatted_data_as_plain_data() -> None:
    documents = Dataset.from_dict({"id": [1, 2, 3], "text": ["a", "b", "c"]})
    resolve = util.resolve_ids({"document_ids": documents}, max_list_length=2)
    expected = {"document_1": ["a", "b"], "document_2": ["b", "c"]}
    assert resolve({"document_ids": [(1, 2), (2, 3, 1)]}) == expected
    rows = Dataset.from_dict({"document_ids": [[1, 2], [2, 3]], "label": [[0.5, 1.0], [0.0, 0.25]]})
    for form in ("torch", "numpy", "pandas", None):
        found = rows.with_format(form).map(resolve, batched=True, remove_columns=["document_ids"])
        assert found.with_format(None)[:] == expected | {"label": [[0.5, 1.0], [0.0, 0.25]]}
    uneven = Dataset.from_dict({"document_ids": [[1], [2, 3]]}).with_format("torch")
    lists = util.resolve_ids({"document_ids": documents}, output_format="lists")
    assert lists(uneven[:]) == {"documents": [["a"], ["b", "c"]]}
