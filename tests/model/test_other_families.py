"""Folders of other families, and folders with code that imports the reference by its name."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from sentence_transformers import SentenceTransformer as Reference
from small import sentences

from likewise import SentenceTransformer
from likewise.models import Transformer

TEXTS = sentences(6)

SCALED = """
from sentence_transformers.models import Module

class Scaled(Module):
    def forward(self, features, **kwargs):
        features["sentence_embedding"] = features["sentence_embedding"] * 2
        return features

    @classmethod
    def load(cls, *args, **kwargs):
        import sentence_transformers.util
        return cls()

    def save(self, *args, **kwargs):
        pass
"""


@pytest.fixture
def folder(saved_folder: Path, tmp_path: Path) -> Path:
    """A saved model to rewrite."""
    return Path(shutil.copytree(saved_folder, tmp_path / "model"))


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_reranker_is_converted_with_a_warning_as_by_the_reference(
    plain_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    CrossEncoder(str(plain_folder), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "reranker"))
    assert (tmp_path / "reranker" / "modules.json").exists()
    settings(tmp_path / "reranker", prompts={"query": "the "}, default_prompt_name="query")
    with caplog.at_level(logging.WARNING):
        ours = SentenceTransformer(tmp_path / "reranker", device="cpu")
    assert "reranker holds a CrossEncoder" in caplog.text
    theirs = Reference(str(tmp_path / "reranker"), device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)
    assert ours.default_prompt_name is None
    ours.save_pretrained(tmp_path / "saved", create_model_card=False)
    np.testing.assert_allclose(
        SentenceTransformer(tmp_path / "saved").encode(TEXTS), ours.encode(TEXTS), atol=2e-6
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"model_type": "SparseEncoder"}, "SparseEncoder"),
        ({"model_type": "MultiVectorEncoder", "similarity_fn_name": "maxsim"}, "MultiVectorEncoder"),
        ({"similarity_fn_name": "MaxSim"}, "MultiVectorEncoder"),
    ],
)
def test_a_family_without_one_vector_a_text_is_refused_in_one_sentence(
    folder: Path, changes: dict[str, Any], name: str
) -> None:
    settings(folder, **changes)
    with pytest.raises(
        ValueError, match=f"holds a {name}, which gives something else .* load it as a {name}"
    ) as caught:
        SentenceTransformer(folder, device="cpu")
    assert "Correct" not in str(caught.value)


def test_settings_of_another_family_in_a_transformer_are_refused(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text('{"transformer_task": "fill-mask"}')
    with pytest.raises(
        ValueError, match="`transformer_task='fill-mask'`, which belongs to a model of another family"
    ):
        SentenceTransformer(folder, device="cpu")


def test_modules_that_give_no_sentence_embedding_are_named(plain_folder: Path) -> None:
    model = SentenceTransformer(modules=[Transformer(str(plain_folder))], device="cpu")
    assert len(model.encode(TEXTS, output_value="token_embeddings")) == len(TEXTS)
    with pytest.raises(ValueError, match=r"\(Transformer\) give no `sentence_embedding`"):
        model.encode(TEXTS)


# Code in a folder


def with_code(folder: Path, comment: str = "") -> Path:
    """The folder with a module of its own; transformers imports the same text once."""
    (folder / "scaled.py").write_text(f"{SCALED}# {comment}\n")
    listing = json.loads((folder / "modules.json").read_text())
    listing.append({"idx": 3, "name": "3", "path": "", "type": "scaled.Scaled"})
    (folder / "modules.json").write_text(json.dumps(listing))
    return folder


def test_code_that_imports_the_reference_gets_this_librarys_classes(folder: Path, saved_folder: Path) -> None:
    before = {
        name: module for name, module in sys.modules.items() if name.startswith("sentence_transformers")
    }
    finders = list(sys.meta_path)
    model = SentenceTransformer(with_code(folder), device="cpu", trust_remote_code=True)
    assert type(model[3]).__mro__[1].__module__ == "likewise.modules.base"
    plain = SentenceTransformer(saved_folder, device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), 2 * plain.encode(TEXTS), atol=1e-6)
    after = {name: module for name, module in sys.modules.items() if name.startswith("sentence_transformers")}
    assert before == after
    assert finders == sys.meta_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the reference, about its older path
def test_code_that_the_reference_has_imported_before_is_imported_anew(folder: Path) -> None:
    theirs = Reference(str(with_code(folder, "for both")), device="cpu", trust_remote_code=True)
    ours = SentenceTransformer(folder, device="cpu", trust_remote_code=True)
    assert type(theirs[3]).__mro__[1].__module__.startswith("sentence_transformers.")
    assert type(ours[3]).__mro__[1].__module__ == "likewise.modules.base"
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)


def test_code_that_imports_the_reference_loads_where_that_is_not_installed(
    folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sentence_transformers":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from likewise import SentenceTransformer
model = SentenceTransformer({str(with_code(folder))!r}, device="cpu", trust_remote_code=True)
try:
    import sentence_transformers
except ModuleNotFoundError:
    print(model[3].__class__.__name__, "loaded")
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.stdout.split() == ["Scaled", "loaded"], done.stderr
