"""Router: several towers of modules as the first module of a model, one for queries and one for documents, say."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, TypeAlias, cast

from torch import Tensor, nn

from likewise.engine import TokenSequences
from likewise.modules import base
from likewise.modules.base import MODULES, Features, InputModule, Module, read_settings, write_json
from likewise.modules.classes import ModuleReader, save_module
from likewise.modules.text import Text

logger = logging.getLogger(__name__)

Modality: TypeAlias = str | tuple[str, ...] | None
Key: TypeAlias = tuple[str | None, Modality]
"""A task ("query", "document", ...) and a modality ("text", "image"); None stands for any."""


class Router(InputModule):
    """Sends texts through one of several towers, by what they are for.

    `encode_query` and `encode_document` ask for the routes "query" and "document"; `encode(task=...)` for any. In
    training the argument `router_mapping` says which column takes which route.

    Args:
        sub_modules: The modules of each route, by its name.
        default_route: The route of texts that ask for none.
        allow_empty_key: Whether the first route is the default one where `default_route` is not given.
        route_mappings: Routes by (task, modality), with None for any; they come before routes of the task's name.

    Raises:
        ValueError: There is no route, or one that is named does not exist.
    """

    config_file_name = "router_config.json"
    save_in_root = False

    def __init__(
        self,
        sub_modules: Mapping[str, Sequence[nn.Module]],
        default_route: str | None = None,
        allow_empty_key: bool = True,
        route_mappings: Mapping[Key, str] | None = None,
    ) -> None:
        super().__init__()
        towers = sub_modules.values() if isinstance(sub_modules, Mapping | nn.ModuleDict) else ()
        if not towers or not all(isinstance(tower, Sized) and len(tower) for tower in towers):
            raise ValueError("`sub_modules` must hold at least one route, and each a list of modules.")
        for route in (default_route, *(route_mappings or {}).values()):
            if route is not None and route not in sub_modules:
                raise ValueError(f"There is no route {route!r}. Choose among: {', '.join(sub_modules)}.")
        if default_route is None and allow_empty_key:
            default_route = next(iter(sub_modules))
        self.sub_modules = nn.ModuleDict({name: nn.Sequential(*tower) for name, tower in sub_modules.items()})
        self._warned_of_sizes = False
        self.default_route = default_route
        self.allow_empty_key = allow_empty_key
        self.route_mappings = {_sorted_key(key): route for key, route in (route_mappings or {}).items()}

    @classmethod
    def for_query_document(
        cls,
        query_modules: Sequence[nn.Module],
        document_modules: Sequence[nn.Module],
        default_route: str | None = "document",
        allow_empty_key: bool = True,
    ) -> Router:
        """A router of the routes "query" and "document"."""
        towers = {"query": query_modules, "document": document_modules}
        return cls(towers, default_route, allow_empty_key)

    @property
    def forward_kwargs(self) -> frozenset[str]:  # type: ignore[override]
        """Keyword arguments of `encode` that the Router or a module of a route takes."""
        taken = (getattr(module, "forward_kwargs", ()) for module in self._all_modules())
        return frozenset({"task", "modality"}).union(*taken)

    def on_model_ready(self, model: Any) -> None:
        """Tell the modules of the routes too."""
        for module in self._all_modules():
            if isinstance(module, Module):
                module.on_model_ready(model)

    def _all_modules(self) -> Iterator[nn.Module]:
        for tower in self.sub_modules.values():
            yield from tower.children()

    @property
    def _firsts(self) -> list[Any]:
        """The module of each route that takes its texts."""
        return [next(tower.children()) for tower in self.sub_modules.values()]

    @property
    def routes(self) -> tuple[str, ...]:
        """The names of the routes."""
        return tuple(self.sub_modules)

    def route(self, task: str | None = None, modality: Modality = "text") -> str:
        """The route for a task: by `route_mappings` (the more exact first), by name, or the default one.

        Raises:
            ValueError: There is none.
        """
        for key in ((task, modality), (task, None), (None, modality), (None, None)):
            if _sorted_key(key) in self.route_mappings:
                return self.route_mappings[_sorted_key(key)]
        for name in (task, modality):
            if isinstance(name, str) and name in self.sub_modules:
                return name
        if task is None and self.default_route is not None:
            return self.default_route
        asked = f"`task={task!r}`" if task is not None else "texts without a task, and no default route"
        raise ValueError(
            f"The Router has no route for {asked}. Its routes are: {', '.join(self.routes)}. Pass one as "
            "`task`, use `encode_query` or `encode_document`, or set `router_mapping` in training."
        )

    def first_module(self, task: str | None = None, modality: Modality = "text") -> Any:
        """The module that takes a task's texts."""
        return self.tower(task, modality)[0]

    def tower(self, task: str | None = None, modality: Modality = "text") -> nn.Sequential:
        """The modules of a task's route."""
        return cast(nn.Sequential, self.sub_modules[self.route(task, modality)])

    @property
    def takes_tokens(self) -> bool:
        """Whether every route takes packed token ids."""
        is_own = base.is_own(self, "forward", "tokenize", "preprocess")
        return is_own and all(map(base.takes_tokens, self._firsts))

    def token_sequences(
        self, texts: Sequence[Text], prompt: str | None = None, task: str | None = None, **options: Any
    ) -> TokenSequences:
        """Token ids of texts, by the tokenizer of the task's route, which gets the `options`."""
        sequences: TokenSequences = self.first_module(task).token_sequences(texts, prompt, **options)
        return sequences

    def tokenize(
        self,
        texts: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        modality: Modality = None,
        **options: Any,
    ) -> dict[str, Tensor]:
        """Features of inputs, as the first module of the route gives them, with `task` and, where it is named, `modality`.

        Args:
            texts: The inputs.
            prompt: Put in front of each.
            task: What they are for.
            modality: Of what kind they are; None for texts.
            **options: For the first module's `preprocess`.
        """
        inputs, task = without_task(texts, task)
        first = self.first_module(task, "text" if modality is None else modality)
        if base.reads_by_task(first):
            options["task"] = task
        features: dict[str, Any] = base.padded_inputs(first, inputs, prompt, **options)
        return {**features, "task": task, **({} if modality is None else {"modality": modality})}

    def forward(
        self, features: Features, task: str | None = None, modality: Modality = None, **kwargs: Any
    ) -> Features:
        """Run the modules of the task's route; features may name the task too."""
        task = features.get("task") if task is None else task
        modality = features.get("modality", "text") if modality is None else modality
        kwargs |= {"task": task, "modality": modality}
        for module in self.tower(task, modality):
            features = base.run_module(module, features, kwargs, reader=self)
        return features

    def get_sentence_embedding_dimension(self) -> int | None:
        """The size of what the first route that knows it gives; that others give another is warned about once."""
        sizes = {route: output_dimension(list(tower)) for route, tower in self.sub_modules.items()}  # type: ignore[call-overload]
        known = {route: size for route, size in sizes.items() if size is not None}
        if len(set(known.values())) > 1 and not self._warned_of_sizes:
            self._warned_of_sizes = True
            logger.warning(
                "The routes of the Router give embeddings of different sizes (%s): those of one cannot be compared with those "
                "of another. The size of the first is taken for the model's.",
                ", ".join(f"{route}: {size}" for route, size in known.items()),
            )
        return next(iter(known.values()), None)

    get_embedding_dimension = get_sentence_embedding_dimension

    @property
    def tokenizer(self) -> Any:
        """The first route's tokenizer that there is."""
        found = (getattr(first, "tokenizer", None) for first in self._firsts)
        return next((tokenizer for tokenizer in found if tokenizer is not None), None)

    @property
    def max_seq_length(self) -> Any:
        """The largest of the routes' limits; setting it sets them all."""
        limits = [getattr(first, "max_seq_length", None) for first in self._firsts]
        return max((limit for limit in limits if limit is not None), default=None)

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        for first in self._firsts:
            of_class = getattr(type(first), "max_seq_length", None)
            is_fixed = isinstance(of_class, property) and of_class.fset is None
            if hasattr(first, "max_seq_length") and not is_fixed:
                first.max_seq_length = value

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write router_config.json and each module in a folder of its own; one that several routes share, once."""
        names: dict[nn.Module, str] = {}
        types: dict[str, str] = {}
        structure: dict[str, list[str]] = {route: [] for route in self.routes}
        for route, tower in self.sub_modules.items():
            for number, module in enumerate(tower.children()):
                if module not in names:
                    name = names[module] = f"{route}_{number}_{type(module).__name__}"
                    types[name] = save_module(module, folder / name, safe_serialization)
                structure[route].append(names[module])
        parameters = {
            "default_route": self.default_route,
            "allow_empty_key": self.allow_empty_key,
            "route_mappings": {str(key): route for key, route in self.route_mappings.items()},
        }
        content = {"types": types, "structure": structure, "parameters": parameters}
        write_json(folder / self.config_file_name, content)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        trust_remote_code: bool = False,
        reader: ModuleReader | None = None,
        **kwargs: Any,
    ) -> Router:
        """Build from a folder that holds a Router, or an Asym of the reference before 5.0."""
        folder = Path(folder)
        name = cls.config_file_name if (folder / cls.config_file_name).exists() else "config.json"
        content = read_settings(folder, name)
        parts = ("types", "structure", "parameters")
        types, structure, parameters = (_object(content, key, folder / name) for key in parts)
        reader = reader or ModuleReader(folder, folder / name, trust_remote_code, kwargs)
        modules = {path: reader.read(str(kind), path, folder) for path, kind in types.items()}
        for route, paths in structure.items():
            if not isinstance(paths, list) or not set(paths) <= set(modules):
                raise ValueError(
                    f"The route {route!r} in {folder / name} names modules that are not listed. Save it again."
                )
        if parameters.get("route_mappings"):
            parameters["route_mappings"] = {
                _read_key(key, folder / name): route for key, route in parameters["route_mappings"].items()
            }
        towers = {route: [modules[path] for path in paths] for route, paths in structure.items()}
        return cls(towers, **parameters)


MODULES["Asym"] = Router
Asym = Router
"""The name of Router before 5.0 of the reference."""


def without_task(texts: Sequence[Any], task: str | None) -> tuple[Sequence[Any], str | None]:
    """Texts and their task, where they come as `[{"query": text}, ...]`, as an Asym took them; others as they are."""
    if not (len(texts) and all(isinstance(text, Mapping) for text in texts)):
        return texts, task
    tasks = {key for text in texts for key in text}
    if len(tasks) != 1:
        raise ValueError(
            f"Texts with a task each must all have the same one, but these have {', '.join(sorted(map(str, tasks)))}. "
            "Encode each task's texts by themselves."
        )
    (found,) = tasks
    return [text[found] for text in texts], found if task is None else task


def output_dimension(modules: Sequence[nn.Module]) -> int | None:
    """The size that the last module which knows its output gives; None where none does."""
    names = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
    for module in reversed(modules):
        for name in names:
            method = getattr(module, name, None)
            size = method() if callable(method) else None
            if size is not None:
                return int(size)
    return None


def _sorted_key(key: Key) -> Key:
    task, modality = key
    return task, tuple(sorted(modality)) if isinstance(modality, tuple | list) else modality


def _object(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    if not isinstance(content.get(key), dict):
        raise ValueError(
            f"{path} should have an object `{key}`, but has {content.get(key)!r}. Restore it or save the model again."
        )
    return dict(content[key])


def _read_key(text: str, path: Path) -> Key:
    """A key of `route_mappings` from its saved form, "('query', None)"."""
    try:
        task, modality = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"{path} has the route mapping {text!r}, which is no (task, modality). Correct it there."
        ) from error
    return task, modality
