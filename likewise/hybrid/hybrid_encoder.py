"""HybridEncoder: dense, sparse and token embeddings of one transformer, which runs once for all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from likewise.checked import positive
from likewise.engine.modes import leave_training
from likewise.engine.token_sequences import IntArray
from likewise.hybrid.shared_transformer import has_head, share
from likewise.model import encoding, inference
from likewise.model import pool as processes
from likewise.model.model import Model
from likewise.model.pool import WorkerPool
from likewise.modules.base import Features, run_module
from likewise.modules.text import check_texts
from likewise.multi_vector_encoder.model import MultiVectorEncoder
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings
from likewise.sentence_transformer.model import SentenceTransformer
from likewise.sparse_encoder.model import SparseEncoder
from likewise.sparse_encoder.sparse_tensors import SparseRows, select_max_active_dims

logger = logging.getLogger(__name__)

OUTPUT = "hybrid_embedding"


@dataclass(frozen=True, eq=False)
class HybridEmbeddings:
    """The embeddings of N texts by each of several models, in the caller's order.

    Attributes:
        by_name: (N, D) or (N, V) tensors, or TokenEmbeddings of N texts, by the models' names.
    """

    by_name: Mapping[str, Any]

    @classmethod
    def join(cls, parts: Sequence[HybridEmbeddings]) -> HybridEmbeddings:
        """The texts of all parts, one part after the other."""
        columns = {name: [part.by_name[name] for part in parts] for name in parts[0].by_name}
        return cls(
            {
                name: torch.cat(values) if isinstance(values[0], Tensor) else values[0].join(values)
                for name, values in columns.items()
            }
        )

    def select(self, rows: Tensor) -> HybridEmbeddings:
        """The texts with these numbers, in this order."""
        return HybridEmbeddings(
            {
                name: value[rows.to(value.device)] if isinstance(value, Tensor) else value.select(rows)
                for name, value in self.by_name.items()
            }
        )

    def split(self, size: int) -> tuple[HybridEmbeddings, ...]:
        """Parts of `size` texts, the last perhaps of fewer."""
        parts = [value.split(size) for value in self.by_name.values()]
        return tuple(
            HybridEmbeddings(dict(zip(self.by_name, part, strict=True))) for part in zip(*parts, strict=True)
        )


class HybridEncoder(nn.Module):
    """Models that begin with the same Transformer: each text goes through it once, then through each model's other modules.

    BGE-M3 is such a model: `HybridEncoder(dense=SentenceTransformer(m3), sparse=SparseEncoder(m3), late=MultiVectorEncoder(m3))`.
    So is a SPLADE model with what reads the encoder beneath its head: `HybridEncoder(dense=SentenceTransformer(modules=[
    Transformer(splade), Pooling(768)]), sparse=SparseEncoder(splade))`. The models stay what they are: each can be used, saved and
    loaded by itself.

    Args:
        **models: Two or more SentenceTransformers, SparseEncoders and MultiVectorEncoders, by the names that their embeddings
            get. Where their first modules are not one object, but equal in weights, settings and tokenizer, all get the first
            model's from then on; beside an MLMTransformer, a Transformer gets its encoder. A head that is not known, or that
            somebody watches, runs with its encoder, a second time.

    Raises:
        TypeError: One is no such model.
        ValueError: There are fewer than two, or their first modules are not equal.

    Reference: Chen et al. 2024, BGE M3-Embedding, https://arxiv.org/abs/2402.03216.
    """

    over_inputs: ClassVar[str] = "encode"
    """What a pool's processes call."""

    def __init__(self, *unnamed: Model, **models: Model) -> None:
        super().__init__()
        if unnamed:
            raise TypeError("The models of a HybridEncoder have names: HybridEncoder(dense=..., sparse=...).")
        if len(models) < 2:
            raise ValueError(
                f"A HybridEncoder takes two models or more, but got {len(models)}: HybridEncoder(dense=..., sparse=...)."
            )
        taken = nn.ModuleDict()
        for name, model in models.items():
            if "." in name or hasattr(taken, name):
                raise ValueError(
                    f"A model cannot be named {name!r}, which torch has another use for. Choose another name."
                )
            if not isinstance(model, SentenceTransformer | SparseEncoder | MultiVectorEncoder):
                raise TypeError(
                    f"`{name}` must be a SentenceTransformer, a SparseEncoder or a MultiVectorEncoder, but is a "
                    f"{type(model).__name__}."
                )
        share(models)
        self.models = nn.ModuleDict(models)

    @property
    def first(self) -> Any:
        """The first model, which reads the texts."""
        return next(iter(self.models.values()))

    @property
    def _running(self) -> Any:
        """The model whose first module runs for all: one without a head, if there is any."""
        return next((model for model in self.models.values() if not has_head(model)), self.first)

    def __getitem__(self, name: str) -> Any:
        """The model of a name."""
        if name not in self.models:
            raise KeyError(f"There is no model named {name!r}, but: {', '.join(self.models)}.")
        return self.models[name]

    def __getattr__(self, name: str) -> Any:
        """What torch keeps elsewhere; of anything else, who may have it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            # While it is unpickled, it has no models yet.
            names = ", ".join(self.__dict__.get("_modules", {}).get("models", ()))
            raise AttributeError(
                f"A HybridEncoder has no `{name}`, but its models may: `encoder[...].{name}`, by one of the names {names}."
            ) from None

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return cast(torch.device, self.first.device)

    # What texts are read by

    @property
    def takes_tokens(self) -> bool:
        """Whether it takes packed token ids."""
        return bool(self.first.takes_tokens)

    def token_sequences(self, *args: Any, **kwargs: Any) -> Any:
        """Texts -> their TokenSequences, as of the first model."""
        return self.first.token_sequences(*args, **kwargs)

    def padded_inputs(self, *args: Any, **kwargs: Any) -> Any:
        """Texts -> padded features, as of the first model."""
        return self.first.padded_inputs(*args, **kwargs)

    # From texts to embeddings

    def forward(
        self, features: Features, own: Mapping[str, Mapping[str, Any]] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run the Transformer, and on what it gives the other modules of each model.

        Args:
            features: Of N texts, packed or padded.
            own: Keyword arguments for modules of single models, by the models' names.
            **kwargs: Keyword arguments for all modules that declare them.

        Returns:
            `hybrid_embedding`: the HybridEmbeddings of N texts.
        """
        if not isinstance(features, dict):
            raise TypeError(
                f"A model takes features, but got {type(features).__name__}. Texts go to `encode`."
            )
        given = dict(features)
        hidden = _run(self._running, slice(1), features, kwargs)
        found: dict[str, Any] = {}
        for name, model in self.models.items():
            part = self._begun(model, hidden, given, kwargs)
            part = _run(model, slice(1, None), part, kwargs | dict((own or {}).get(name, {})))
            if isinstance(model, MultiVectorEncoder):
                found[name] = TokenEmbeddings.of(part)
            elif "sentence_embedding" in part:
                found[name] = part["sentence_embedding"]
            else:
                raise ValueError(
                    f"The modules of `{name}` ({', '.join(type(module).__name__ for module in model.children())}) give no "
                    "`sentence_embedding`. Add one that makes it, e.g. Pooling."
                )
        return {OUTPUT: HybridEmbeddings(found)}

    def _begun(self, model: Any, hidden: Features, given: Features, kwargs: Mapping[str, Any]) -> Features:
        """What a model's first module makes of `given` features, of what the one that ran has made of them."""
        if has_head(model) == has_head(self._running):
            return dict(hidden)
        if model[0].packs():
            return cast(Features, model[0].of_hidden_states(hidden))
        # Its head takes nothing but what it has made itself: the encoder runs once more.
        return _run(model, slice(1), dict(given), kwargs)

    def encode(
        self,
        inputs: str | Sequence[Any],
        task: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        prompt_name: str | None = None,
    ) -> dict[str, Any]:
        """Embed texts by all models at once. The models are in eval mode from then on.

        Args:
            inputs: A text, or a list of texts.
            task: What they are for, "query" or "document"; None for neither.
            prompt: Put in front of each; None for the prompt that the models have for the task.
            batch_size: How much goes through the Transformer at once: a batch holds about `batch_size` texts of 32 tokens on the
                CPU and of 512 tokens elsewhere.
            show_progress_bar: Whether to show progress; None for where logging is at INFO or below.
            pool: Processes to encode in, from `start_multi_process_pool`; what they return is on the CPU.
            chunk_size: Texts that a process gets at a time; None for a tenth of its share, 5,000 at most.
            prompt_name: The prompt to use, a key of the models' `prompts`; None for that of the task.

        Returns:
            By the models' names what `encode` of each gives: an array (N, D), a COO tensor (N, V), a list of (tokens, D); of one
            text (D,), (V,) and (tokens, D).

        Raises:
            TypeError: Something is not a text.
            ValueError: An argument is out of its range, or the models have different prompts for the task.
        """
        texts, single = encoding.as_list(inputs)
        encoding.check_asked(prompt, prompt_name, pool)
        if self.takes_tokens:  # others may take anything
            check_texts(texts)
        own = {
            name: {"max_active_dims": model.max_active_dims}
            for name, model in self.models.items()
            if isinstance(model, SparseEncoder) and model.max_active_dims is not None
        }
        request = inference.Request(
            prompt=self._prompt(task, prompt_name, prompt),
            token_budget=inference.token_budget(
                positive(batch_size, "batch_size"), self.first[0], self.device
            ),
            device=self.device,
            to_cpu=False,
            forward_kwargs={"task": task, "own": own},
        )
        leave_training(self)
        places = {name: _Places(model, len(texts)) for name, model in self.models.items()}
        with encoding.progress_of(len(texts), show_progress_bar, logger) as progress:
            if pool is not None and len(texts):
                options = {"task": task, "prompt": request.prompt, "batch_size": batch_size}
                parts = pool.map(texts, options, chunk_size, progress)
                found = {name: _joined([part[name] for part in parts]) for name in self.models}
            else:
                for rows, features in inference.run_batches(cast(Any, self), texts, request, progress):
                    for name, embeddings in features[OUTPUT].by_name.items():
                        places[name].put(rows, embeddings)
                found = {name: each.result() for name, each in places.items()}
        return {name: each[0] for name, each in found.items()} if single else found

    def encode_query(self, inputs: str | Sequence[Any], **kwargs: Any) -> dict[str, Any]:
        """`encode`, and its arguments, for the task "query"."""
        return self.encode(inputs, "query", **kwargs)

    def encode_document(self, inputs: str | Sequence[Any], **kwargs: Any) -> dict[str, Any]:
        """`encode`, and its arguments, for the task "document"."""
        return self.encode(inputs, "document", **kwargs)

    start_multi_process_pool = processes.start_multi_process_pool
    stop_multi_process_pool = staticmethod(processes.stop_multi_process_pool)

    def _prompt(self, task: str | None, prompt_name: str | None, prompt: str | None) -> str:
        found = {
            name: encoding.way_of_embedding(model, task, prompt_name, prompt)[0]
            for name, model in self.models.items()
        }
        if len(set(found.values())) > 1:
            raise ValueError(
                f"The text goes through the Transformer once, so that all models must have the same prompt, but for {prompt_name or task!r} they "
                f"have {found}. Pass `prompt`, or set their `prompts`."
            )
        return next(iter(found.values()))


def _run(model: Any, modules: slice, features: Features, kwargs: Mapping[str, Any]) -> Features:
    """Run some of a model's modules."""
    for name, module in [*model.named_children()][modules]:
        features = run_module(module, features, kwargs, model.module_kwargs.get(name, ()), model[0])
    return features


class _Places:
    """The embeddings of N texts by one model, as its `encode` gives them, put in batch by batch."""

    def __init__(self, model: Any, num_texts: int) -> None:
        self.model, self.num_texts = model, num_texts
        self.dense = torch.empty(0)
        self.sparse = SparseRows(num_texts, model.device)
        self.tokens: list[Tensor] = [torch.empty(0)] * num_texts

    def put(self, rows: IntArray, found: Any) -> None:
        """Put the embeddings of the texts with these numbers."""
        places = torch.from_numpy(rows)
        if isinstance(self.model, MultiVectorEncoder):
            for row, embeddings in zip(rows.tolist(), found, strict=True):
                self.tokens[row] = embeddings.clone()  # a view would keep the whole batch alive
        elif isinstance(self.model, SparseEncoder):
            self.sparse.put(places, select_max_active_dims(found, self.model.max_active_dims))
        else:
            found = found[:, : self.model.truncate_dim].cpu()
            if not self.dense.numel():
                self.dense = found.new_empty(self.num_texts, found.shape[1])
            self.dense[places] = found

    def result(self) -> Any:
        """All of them, in the texts' order."""
        if isinstance(self.model, MultiVectorEncoder):
            return self.tokens
        if isinstance(self.model, SparseEncoder):
            return self.sparse.result()
        return encoding.converted(self.dense, "float32", to_numpy=True, to_tensor=False)


def _joined(parts: Sequence[Any]) -> Any:
    """The embeddings of all texts by one model, of those of some texts each."""
    if isinstance(parts[0], list):
        return [embeddings for part in parts for embeddings in part]
    return torch.cat(list(parts)).coalesce() if isinstance(parts[0], Tensor) else np.concatenate(parts)
