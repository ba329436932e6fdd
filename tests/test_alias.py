"""The alias: how programs that import the reference by name see this library, and what they start and pickle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from small import small_model_folder

import likewise
from likewise.compat import with_alias
from likewise.compat.missing import stand_in
from likewise.compat.names import MISSING

INSTALL = "import likewise.compat; likewise.compat.install()\n"


def run(script: str, *arguments: str | Path) -> str:
    done = warm.run(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_classes_are_named_as_the_references_are() -> None:
    run(
        INSTALL
        + "from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SimilarityFunction, losses\n"
        "from sentence_transformers.evaluation import TripletEvaluator\n"
        "from sentence_transformers.models import Pooling\n"
        "kinds = [SentenceTransformer, SentenceTransformerTrainer, losses.CoSENTLoss, TripletEvaluator, Pooling]\n"
        "assert [kind.__module__.partition('sentence_transformers.')[2] for kind in kinds] == [\n"
        "    'sentence_transformer.model', 'sentence_transformer.trainer', 'sentence_transformer.losses.cosent',\n"
        "    'sentence_transformer.evaluation.triplet', 'sentence_transformer.modules.pooling']\n"
        "assert SimilarityFunction.__module__ == 'sentence_transformers.util.similarity'\n"
    )


# Of the reference's own making: bases and parts that nothing here has.
NOT_HERE = {
    "BaseDataCollator", "BaseEvaluator", "BaseModel", "BaseModelCardCallback", "BaseModelCardData", "BaseTrainer",
    "BaseTrainingArguments", "ProcessingKwargs", "QueryExpansionConfig",
}  # fmt: skip


def test_every_class_of_the_table_is_found_at_the_references_path_and_called_after_it() -> None:
    printed = run(
        INSTALL + "from importlib import import_module\n"
        "from likewise.compat.names import CLASSES, by_path\n"
        f"not_here = {NOT_HERE}\n"
        "for path, names in by_path(CLASSES).items():\n"
        "    for name in set(names) - not_here:\n"
        "        kind = getattr(import_module('sentence_transformers.' + path), name)\n"
        "        if kind.__name__ == name and isinstance(kind, type):\n"
        "            assert kind.__module__ == 'sentence_transformers.' + path, kind\n"
        "            print(path, name)\n"
    )
    found = printed.splitlines()
    assert "sentence_transformer.losses.online_contrastive OnlineContrastiveLoss" in found
    assert (
        "cross_encoder.losses.cached_multiple_negatives_ranking CachedMultipleNegativesRankingLoss" in found
    )
    assert "cross_encoder.model CrossEncoder" in found


def test_rerankers_are_found_at_every_releases_paths() -> None:
    run(
        INSTALL + "from sentence_transformers import CrossEncoder, CrossEncoderTrainer\n"
        "from sentence_transformers.cross_encoder import CrossEncoder as second, CrossEncoderTrainer as trainer\n"
        "from sentence_transformers.cross_encoder.CrossEncoder import CrossEncoder as third\n"
        "from sentence_transformers.cross_encoder.losses import LambdaLoss\n"
        "from sentence_transformers.cross_encoder.losses.LambdaLoss import LambdaLoss as other\n"
        "from sentence_transformers.cross_encoder.evaluation import CERerankingEvaluator\n"
        "from sentence_transformers.cross_encoder.evaluation.CERerankingEvaluator import CERerankingEvaluator as old\n"
        "assert CrossEncoder is second is third and trainer is CrossEncoderTrainer\n"
        "assert LambdaLoss is other and old is CERerankingEvaluator\n"
        "assert 'sentence_transformers' in str(CrossEncoder)\n"
    )


def test_without_the_alias_classes_are_named_as_they_are() -> None:
    assert likewise.SentenceTransformer.__module__.startswith("likewise.")


def test_annotations_of_renamed_classes_are_resolved() -> None:
    run(
        INSTALL
        + "from sentence_transformers import CrossEncoderTrainingArguments, SentenceTransformerTrainingArguments\n"
        "from transformers import HfArgumentParser\n"
        "for kind in (SentenceTransformerTrainingArguments, CrossEncoderTrainingArguments):\n"
        "    command = ['--output_dir', 'out', '--batch_sampler', 'no_duplicates', '--learning_rate', '1e-3']\n"
        "    (arguments,) = HfArgumentParser(kind).parse_args_into_dataclasses(command)\n"
        "    assert type(arguments) is kind and arguments.batch_sampler.value == 'no_duplicates', arguments\n"
    )


def test_the_alias_is_found_measured_and_read_as_a_package_is() -> None:
    run(
        INSTALL + "import importlib.metadata, importlib.util, inspect, pkgutil\n"
        "import sentence_transformers\n"
        "assert importlib.util.find_spec('sentence_transformers') is not None\n"
        "assert importlib.metadata.version('sentence-transformers') == '6.2.0' == sentence_transformers.__version__\n"
        "assert importlib.metadata.version('sentence_transformers') == '6.2.0'\n"
        "kind = sentence_transformers.SentenceTransformer\n"
        "assert 'class SentenceTransformer' in inspect.getsource(kind)\n"
        "assert sentence_transformers.__file__.endswith('__init__.py')\n"
        "names = {file.name for file in pkgutil.iter_modules(sentence_transformers.__path__)}\n"
        "assert {'losses', 'util', 'evaluation'} <= names\n"
        "import sentence_transformers.losses as losses\n"
        "assert losses is likewise.losses\n"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model's folder."""
    return small_model_folder(tmp_path_factory.mktemp("alias") / "model")


PICKLED = """
import pickle, sys
from {library} import SentenceTransformer, SimilarityFunction, losses
class Mine(SentenceTransformer):
    pass
if sys.argv[2] == "write":
    model = SentenceTransformer(sys.argv[1], device="cpu")
    with open(sys.argv[3], "wb") as file:
        pickle.dump((model, losses.CoSENTLoss(model), SimilarityFunction.DOT_PRODUCT), file)
else:
    with open(sys.argv[3], "rb") as file:
        model, loss, function = pickle.load(file)
    assert isinstance(model, SentenceTransformer) and isinstance(loss, losses.CoSENTLoss)
    assert loss.model is model and function is SimilarityFunction.DOT_PRODUCT
    assert model.encode(["a text"]).shape == (1, 32)
    import copy
    again = copy.deepcopy(Mine(sys.argv[1], device="cpu"))
    assert type(again) is Mine and pickle.loads(pickle.dumps(again)).encode("x").shape == (32,)
"""


def test_a_pickle_is_read_with_the_alias_and_without(tmp_path: Path, folder: str) -> None:
    scripts = {
        "alias": INSTALL + PICKLED.format(library="sentence_transformers"),
        "plain": PICKLED.format(library="likewise"),
    }
    for kind, script in scripts.items():
        run(script, folder, "write", tmp_path / kind)
    for writes, reads in (("alias", "plain"), ("plain", "alias"), ("alias", "alias")):
        run(scripts[reads], folder, "read", tmp_path / writes)


def test_what_was_kept_without_the_alias_is_found_with_it(folder: str) -> None:
    script = "import sys\nfrom {} import SentenceTransformer\nprint(SentenceTransformer(sys.argv[1], device='cpu').fingerprint())\n"
    plain = run(script.format("likewise"), folder)
    assert run(INSTALL + script.format("sentence_transformers"), folder) == plain
    assert len(plain.strip()) == 32


@pytest.mark.parametrize("root", ["likewise", "sentence_transformers"])
def test_names_that_are_not_here_import_and_refuse_when_they_are_used(root: str) -> None:
    run(
        (INSTALL if root != "likewise" else "") + f"import {root}\n"
        f"from {root}.multi_vector_encoder import interpretability\n"
        f"from {root}.multi_vector_encoder.interpretability import maxsim_heatmap\n"
        "assert maxsim_heatmap is interpretability.maxsim_heatmap\n"
        "assert not isinstance(1, maxsim_heatmap) and issubclass(maxsim_heatmap, object)\n"
        "class Mine(maxsim_heatmap):\n"
        "    pass\n"
        "for name, use in {'maxsim_heatmap': maxsim_heatmap, 'Mine': Mine}.items():\n"
        "    try:\n"
        "        use()\n"
        "    except NotImplementedError as error:\n"
        "        assert str(error).startswith(f'{name} is not part of Likewise yet'), error\n"
        "    else:\n"
        "        raise AssertionError(name)\n"
        "assert not hasattr(maxsim_heatmap, 'load') and not hasattr(interpretability, 'Nothing')\n"
    )


def test_a_path_of_a_missing_part_that_nobody_has_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("likewise.multi_vector_encoder.nothing")
    assert "maxsim_heatmap" in MISSING["multi_vector_encoder.interpretability"]
    assert stand_in("maxsim_heatmap") is stand_in("maxsim_heatmap")


def test_what_the_families_share_is_found_in_the_references_base() -> None:
    run(
        INSTALL + "from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, util\n"
        "from sentence_transformers.base import (\n"
        "    BaseDataCollator, BaseModel, BaseTrainer, BaseTrainingArguments, BatchSamplers, DefaultBatchSampler,\n"
        "    GroupByLabelBatchSampler, MultiDatasetBatchSamplers, MultiDatasetDefaultBatchSampler,\n"
        "    NoDuplicatesBatchSampler, ProportionalBatchSampler, RoundRobinBatchSampler,\n"
        ")\n"
        "from sentence_transformers.base.model import BaseModel as deeper\n"
        "from sentence_transformers.sentence_transformer import SentenceTransformerDataCollator\n"
        "from sentence_transformers.multi_vector_encoder import maxsim, maxsim_pairwise\n"
        "assert issubclass(SentenceTransformer, BaseModel) and BaseModel is deeper\n"
        "assert issubclass(SentenceTransformerTrainer, BaseTrainer)\n"
        "assert issubclass(SentenceTransformerDataCollator, BaseDataCollator)\n"
        "assert issubclass(GroupByLabelBatchSampler, DefaultBatchSampler)\n"
        "assert maxsim is util.maxsim and maxsim_pairwise is util.maxsim_pairwise\n"
    )


@pytest.mark.parametrize("root", ["likewise", "sentence_transformers"])
def test_the_paths_of_sparse_models_of_every_release_lead_to_them(root: str) -> None:
    run(
        (INSTALL if root != "likewise" else "") + f"import {root}\n"
        f"from {root} import SparseEncoder, SparseEncoderTrainer, SparseEncoderTrainingArguments\n"
        f"from {root}.sparse_encoder import SparseEncoder as Other\n"
        f"from {root}.sparse_encoder.losses.splade import SpladeLoss\n"
        f"from {root}.sparse_encoder.losses.SpladeLoss import SpladeLoss as Older\n"
        f"from {root}.sparse_encoder.losses.sparse_angle import SparseAnglELoss\n"
        f"from {root}.sparse_encoder.models import MLMTransformer, SpladePooling, IDF\n"
        f"from {root}.sparse_encoder.models.MLMTransformer import MLMTransformer as Deeper\n"
        f"from {root}.sparse_encoder.evaluation.sparse_nano_beir import SparseNanoBEIREvaluator\n"
        f"from {root}.sparse_encoder.evaluation import ReciprocalRankFusionEvaluator\n"
        f"from {root}.sparse_encoder.callbacks.splade_callbacks import SchedulerType\n"
        f"from {root}.sparse_encoder.callbacks import SpladeRegularizerWeightSchedulerCallback\n"
        "assert SparseEncoder is Other and SpladeLoss is Older and MLMTransformer is Deeper\n"
        f"assert {root}.sparse_encoder.SparseEncoder is SparseEncoder\n"
        + (
            ""
            if root == "likewise"
            else "assert SparseEncoder.__module__ == 'sentence_transformers.sparse_encoder.model'\n"
        )
    )


STARTS = """
import subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
def where(_):
    import sentence_transformers
    return Path(sentence_transformers.__file__).parent.name
if __name__ == "__main__":
    assert where(0) == "likewise"
    if "--all" in sys.argv:
        from joblib import Parallel, delayed
        for method in ("loky", "multiprocessing"):
            assert Parallel(2, backend=method)(delayed(where)(i) for i in range(4)) == ["likewise"] * 4, method
        for method in ("spawn", "forkserver", "fork"):
            with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
                assert list(pool.map(where, range(2))) == ["likewise"] * 2, method
    code = "import sentence_transformers as s; print(s.__file__.replace(chr(92), '/').split('/')[-2])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "likewise"
    print(*sys.argv[1:])
    sys.exit(3)
"""


def test_a_script_that_is_run_has_the_alias_in_all_that_it_starts(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(STARTS)
    for command, more in (([str(script)], "x"), (["-m", "script"], "--all")):
        done = subprocess.run(
            [sys.executable, "-m", "likewise", "run", *command, "--help", "-m", more],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert done.stdout.split() == ["--help", "-m", more]


def test_a_sitecustomize_of_ones_own_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = True\n")
    root = str(Path(likewise.__file__).parents[1])
    env = with_alias({**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])})
    script = "import sys, sentence_transformers as s; print(sys.mine, s.__name__ in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert done.stdout == "True True\n", done.stderr


def test_a_line_in_a_pth_file_gives_a_whole_environment_the_alias(tmp_path: Path) -> None:
    page = (Path(likewise.__file__).parents[1] / "docs" / "migrating.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"write\('(import likewise.compat;.*?)'\)", page)
    (tmp_path / "likewise.pth").write_text(line)
    found = run(
        "import site, sys; site.addsitedir(sys.argv[1])\n"
        "import sentence_transformers as s; print(s.SentenceTransformer.__init__.__globals__['__name__'])",
        tmp_path,
    )
    assert found.startswith("likewise.")


def test_a_script_that_is_not_there_is_said_to_be_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "likewise", "run", "nowhere.py"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "There is no script 'nowhere.py'" in done.stderr


def test_the_command_says_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "likewise", "--version"], capture_output=True, text=True)
    assert done.stdout == f"likewise {likewise.__version__}\n"
