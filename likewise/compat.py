"""The reference's import paths, of every release, and its name.

`likewise.SentenceTransformer` and `likewise.losses.CoSENTLoss` are files of the reference before 5.4,
`likewise.sentence_transformer.losses.cosent` and `likewise.base.modules` of 6.x. A script may import from any of them: each
gives the public names of the place where they live here. After `install()` that holds for the package name
`sentence_transformers` too, for programs that import it and cannot be changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).parent
API_VERSION = "6.2.0"
"""The release of the reference whose API this is; what programs that ask for its version are told."""
# 6.x keeps in these two what stood at the top before.
TOPS = ("base", "sentence_transformer")
# The reference's files by the place that has their names now ("" is the package): before 5.4 there was one for each class.
FILES = {
    "": "SentenceTransformer model",
    "datasets": """DenoisingAutoEncoderDataset NoDuplicatesDataLoader ParallelSentencesDataset SentenceLabelDataset
        SentencesDataset denoising_auto_encoder no_duplicates_dataloader parallel_sentences sentence_label sentences""",
    "evaluation": """BinaryClassificationEvaluator EmbeddingSimilarityEvaluator InformationRetrievalEvaluator
        LabelAccuracyEvaluator MSEEvaluator MSEEvaluatorFromDataFrame NanoBEIREvaluator ParaphraseMiningEvaluator
        RerankingEvaluator SentenceEvaluator SequentialEvaluator SimilarityFunction TranslationEvaluator TripletEvaluator
        evaluator""",
    "losses": """AdaptiveLayerLoss AnglELoss BatchAllTripletLoss BatchHardSoftMarginTripletLoss BatchHardTripletLoss
        BatchSemiHardTripletLoss CachedGISTEmbedLoss CachedMultipleNegativesRankingLoss
        CachedMultipleNegativesSymmetricRankingLoss CoSENTLoss ContrastiveLoss ContrastiveTensionLoss CosineSimilarityLoss
        DenoisingAutoEncoderLoss DistillKLDivLoss GISTEmbedLoss MSELoss MarginMSELoss Matryoshka2dLoss MatryoshkaLoss
        MegaBatchMarginLoss MultipleNegativesRankingLoss MultipleNegativesSymmetricRankingLoss OnlineContrastiveLoss
        SoftmaxLoss TripletLoss angle batch_all_triplet batch_hard_soft_margin_triplet batch_hard_triplet
        batch_semi_hard_triplet cached_gist_embed cached_multiple_negatives_ranking
        cached_multiple_negatives_symmetric_ranking distill_kl_div margin_mse matryoshka_2d mse
        multiple_negatives_symmetric_ranking online_contrastive""",
    "models": """Asym BoW CLIPModel CNN Dense Dropout InputModule LSTM LayerNorm Module Normalize Pooling Router
        StaticEmbedding Transformer WeightedLayerPooling WordEmbeddings WordWeights tokenizer tokenizer.PhraseTokenizer
        tokenizer.WhitespaceTokenizer tokenizer.WordTokenizer""",
    "readers": """InputExample LabelSentenceReader NLIDataReader PairedFilesReader STSDataReader TripletReader input_example
        label_sentence nli_data paired_files sts_data triplet""",
    "util": "hard_negatives quantization retrieval similarity",
}
HOMES = {f"{room}.{file}".lstrip("."): room for room, files in FILES.items() for file in files.split()} | {
    "LoggingHandler": "util",
    "data_collator": "training.data_collator",
    "modules.input_module": "models",
    "modules.module": "models",
    "modules.tokenizer": "models",
    "modules.tokenizer.phrase": "models",
    "modules.tokenizer.whitespace": "models",
    "modules.tokenizer.word": "models",
}

_ALIASING = RLock()


def install() -> None:
    """Let `import sentence_transformers` give this package, for code that imports it by name.

    Call it at the top level of the main script, so that processes which that starts have it too.

    Raises:
        RuntimeError: The reference itself was imported before.
    """
    if not isinstance(sys.modules.get("sentence_transformers"), _PassedOn | None):
        raise RuntimeError(
            "sentence_transformers was imported already. Call `likewise.compat.install()` before the first import of it."
        )
    find_paths_of("sentence_transformers", 0)


@contextmanager
def aliased() -> Iterator[None]:
    """Within this context `import sentence_transformers` gives this package; afterwards it is as it was.

    For code that comes with a model: it imports the reference by name, which need not be installed, and must not be mixed in
    where it is.
    """
    name = "sentence_transformers"
    with _ALIASING:
        if any(isinstance(finder, OldPaths) and finder.root == name for finder in sys.meta_path):
            yield
            return
        aside = _taken_out(name)
        find_paths_of(name, 0)
        try:
            yield
        finally:
            sys.meta_path[:] = [f for f in sys.meta_path if not (isinstance(f, OldPaths) and f.root == name)]
            _taken_out(name)
            sys.modules.update(aside)


def _taken_out(package: str) -> dict[str, ModuleType]:
    """The modules of a package that were imported, which are then as if they had not been."""
    names = [name for name in sys.modules if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


def find_paths_of(root: str, place: int) -> None:
    """Let the reference's paths below a package be found, once, at this place among the ways to find modules."""
    if not any(isinstance(finder, OldPaths) and finder.root == root for finder in sys.meta_path):
        sys.meta_path.insert(place, OldPaths(root))


class OldPaths:
    """Finds modules at the reference's paths; a finder and loader as `sys.meta_path` takes them.

    Args:
        root: The package whose paths these are.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A module that is another, or passes on its names. Nothing is imported here, where Python holds a lock."""
        root, _, rest = name.partition(".")
        home = _home(rest) if root == self.root else None
        return None if home in (None, name) else ModuleSpec(name, self, origin=home, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, where there is one at this path; else one that has its names."""
        rest = spec.name.removeprefix(f"{self.root}.")
        if f"likewise.{rest}" != spec.origin:
            return _PassedOn(spec.name, f"The names of {spec.origin}, under the reference's path.")
        module = import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave a module that has run before as it was; keep the class that has this one's name."""
        assert module.__spec__ is not None
        if module.__spec__.loader_state is not None:
            module.__spec__ = module.__spec__.loader_state
            return
        parent, _, name = module.__name__.rpartition(".")
        above = sys.modules.get(parent)
        if isinstance(getattr(above, name, None), type) and not isinstance(above, _KeepsClasses):
            sys.modules[parent].__class__ = _KeepsClasses


class _KeepsClasses(ModuleType):
    """A module whose class stays when a file of the same name is imported: `likewise.losses.CoSENTLoss`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, _PassedOn) and isinstance(getattr(self, name, None), type)):
            super().__setattr__(name, value)


class _PassedOn(_KeepsClasses):
    """Has the names of the module that its spec names, and those of the package."""

    def __getattr__(self, name: str) -> Any:
        origin = str(self.__spec__.origin)  # type: ignore[union-attr]
        if name == "__version__" and self.__name__ == "sentence_transformers":
            return API_VERSION
        homes: tuple[str, ...] = (origin, "likewise")
        if name.startswith("__"):
            homes = (origin,) if name == "__all__" else ()
        for home in homes:
            module = import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return dir(import_module(str(self.__spec__.origin)))  # type: ignore[union-attr]


def _home(path: str) -> str | None:
    """The module that holds the names of one of the reference's (without the package's name); None for no such."""
    first, _, rest = path.partition(".")
    if first in TOPS:
        path = rest
    path = HOMES.get(path, path)
    place = PACKAGE.joinpath(*path.split("."))
    if path and not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
        return None
    return f"likewise.{path}".rstrip(".")
