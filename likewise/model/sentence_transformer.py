"""SentenceTransformer: a sequence of modules that turns texts into embeddings."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from likewise.engine import TokenSequences
from likewise.model import encoding, hub, inference, placement, storage
from likewise.model.int8 import Int8Probe, probe
from likewise.model.output_file import OutputFile
from likewise.model.pool import WorkerPool, default_devices
from likewise.modules import CLIPModel, Pooling, Router, Transformer, adapters
from likewise.modules.base import Features, is_own, padded_inputs, run_module, takes_tokens
from likewise.modules.device import best_device as best_device
from likewise.modules.router import output_dimension, without_task
from likewise.modules.text import Text, Tokenization
from likewise.similarity import Similarity, SimilarityFunction

if TYPE_CHECKING:
    from transformers import BatchEncoding

    from likewise.card import SentenceTransformerModelCardData

logger = logging.getLogger(__name__)

DEFAULT_PROMPTS = {"query": "", "document": ""}
# By task, the prompts it may have; the first that the model has is used.
TASK_PROMPT_NAMES = {"query": ("query",), "document": ("document", "passage", "corpus")}


class SentenceTransformer(nn.Sequential):
    """Turns texts into embeddings that can be compared.

    Args:
        model_name_or_path: A folder, or a name on the Hub. A plain transformers model gets mean pooling.
        modules: The modules, in order, to build a model from scratch.
        device: Where it computes; None for the best device at hand.
        prompts: Named texts to put in front of the inputs, e.g. `{"query": "query: "}`.
        default_prompt_name: The prompt that `encode` uses when none is asked for; a key of the prompts.
        similarity_fn_name: cosine, dot, euclidean or manhattan; None for the saved one, else cosine.
        cache_folder: Where downloads are kept; None for `SENTENCE_TRANSFORMERS_HOME` or Hugging Face's usual place.
        trust_remote_code: Whether code that comes with the model may run.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Whether only what was downloaded before may be used.
        token: Access token for the Hub.
        use_auth_token: The older name of `token`.
        truncate_dim: Embeddings are cut to this many entries; None for all.
        model_kwargs: For `AutoModel.from_pretrained`, e.g. `torch_dtype`. With `attn_implementation` the model pads.
        tokenizer_kwargs: For `AutoTokenizer.from_pretrained` (`processor_kwargs` is the same).
        config_kwargs: For `AutoConfig.from_pretrained`.
        model_card_data: What the model card says.
        backend: "torch", "onnx" to compute with onnxruntime, or "openvino". The two run a graph, which is exported where
            there is none yet; `model_kwargs` may name its file (`{"file_name": "model_O3.onnx"}`).

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The folder is damaged or not trusted, or an argument does not fit the model.

    Examples:
        >>> model = SentenceTransformer("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> embeddings = model.encode(["It is raining.", "Wet weather today."])  # doctest: +SKIP
        >>> model.similarity(embeddings, embeddings)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        modules: Sequence[nn.Module] | OrderedDict[str, nn.Module] | None = None,
        device: str | torch.device | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: str | SimilarityFunction | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
        truncate_dim: int | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: SentenceTransformerModelCardData | None = None,
        backend: Literal["torch", "onnx", "openvino"] = "torch",
        *,
        processor_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if backend not in ("torch", "onnx", "openvino"):
            raise ValueError(f"`backend` must be 'torch', 'onnx' or 'openvino', but is {backend!r}.")
        if (model_name_or_path is None) == (modules is None):
            raise ValueError("Pass either `model_name_or_path` or `modules`.")
        tokenizer_kwargs = {**(tokenizer_kwargs or {}), **(processor_kwargs or {})}
        token = use_auth_token if token is None else token
        if model_name_or_path is None:
            stored, folder = storage.StoredModel(_named(modules or [])), None
        else:
            folder = storage.find_folder(
                model_name_or_path, cache_folder, revision, local_files_only, token, backend, model_kwargs
            )
            stored = storage.load(
                folder, trust_remote_code, model_kwargs, tokenizer_kwargs, config_kwargs, backend
            )
        super().__init__(OrderedDict(stored.modules))
        settings = stored.settings
        self.module_kwargs = stored.module_kwargs
        self.prompts: dict[str, str] = DEFAULT_PROMPTS | _texts(settings.get("prompts")) | _texts(prompts)
        self.default_prompt_name: str | None = default_prompt_name or settings.get("default_prompt_name")
        if self.default_prompt_name is not None:
            self._prompt_named(self.default_prompt_name)
        self._similarity_fn_name: str | None = None
        self.similarity_fn_name = similarity_fn_name or settings.get("similarity_fn_name")
        self.truncate_dim: int | None = settings.get("truncate_dim") if truncate_dim is None else truncate_dim
        self._check_truncate_dim(self.truncate_dim)
        self.trust_remote_code = trust_remote_code
        self._reported_truncation = False
        self._model_card_text, self._model_card_plot = stored.card, stored.card_plot
        self._model_card_data = model_card_data
        if folder is not None:
            self.model_card_data.set_base_model(str(folder), revision=revision)
        self.model_card_data.register_model(self)
        self._unify_dtype()
        if not (model_kwargs or {}).get("device_map"):
            self.to(device or best_device())
        else:
            self._place_behind_map(device)

    @classmethod
    def load(cls, input_path: str | os.PathLike[str]) -> SentenceTransformer:
        """The older way to call the constructor."""
        return cls(input_path)

    # Modules and settings

    @property
    def model_card_data(self) -> SentenceTransformerModelCardData:
        """What the model card says about this model."""
        if self._model_card_data is None:
            from likewise.card import SentenceTransformerModelCardData

            self._model_card_data = SentenceTransformerModelCardData()
        return self._model_card_data

    @model_card_data.setter
    def model_card_data(self, value: SentenceTransformerModelCardData) -> None:
        self._model_card_data = value

    def _first_module(self) -> Any:
        return self[0]

    def _last_module(self) -> Any:
        return self[-1]

    @property
    def takes_tokens(self) -> bool:
        """Whether the first module takes packed token ids; one that somebody else wrote does not, nor does such a model."""
        first = self[0].takes_tokens if isinstance(self[0], Router) else takes_tokens(self[0])
        return bool(first) and is_own(self, "forward", "tokenize", "preprocess")

    def padded_inputs(
        self, texts: Sequence[Any], prompt: str | None, task: str | None
    ) -> Mapping[str, Tensor]:
        """The features that `preprocess` or, where somebody has overridden that, `tokenize` gives."""
        options = {"task": task} if isinstance(self[0], Router) else {}
        return padded_inputs(self, texts, prompt, **options)

    @property
    def device(self) -> torch.device:
        """Where the model is; of one that is spread over devices, where it takes its inputs."""
        parameter = next(self.parameters(), None)
        here = torch.device("cpu") if parameter is None else parameter.device
        return placement.spread_over(self.transformers_model) or here

    @property
    def _target_device(self) -> torch.device:  # the older name, which other packages still use
        return self.device

    def to(self, *args: Any, **kwargs: Any) -> SentenceTransformer:  # type: ignore[override]
        """Move the model to a device, or convert it to a type, as torch's method of this name does.

        Raises:
            RuntimeError: It is spread over devices.
        """
        placement.refuse_spread(self, "be moved or converted")
        return super().to(*args, **kwargs)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        parameter = next(self.parameters(), None)
        return torch.float32 if parameter is None else parameter.dtype

    def _place_behind_map(self, device: str | torch.device | None) -> None:
        """Where `device_map` said where the transformers model goes, put the modules behind it beside it."""
        if device is not None:
            logger.warning("`device=%r` is ignored: `device_map` says where the model goes.", str(device))
        for module in list(self)[1:]:
            module.to(self.device)

    def _unify_dtype(self) -> None:
        """Modules behind the first take its dtype: a half-precision encoder has no use for a float32 head."""
        parameter = next(self[0].parameters(), None)
        if parameter is not None:
            for module in list(self)[1:]:
                module.to(parameter.dtype)

    @property
    def tokenizer(self) -> Any:
        """The first module's tokenizer."""
        return self._first_module().tokenizer

    @tokenizer.setter
    def tokenizer(self, value: Any) -> None:
        self._first_module().tokenizer = value

    @property
    def processor(self) -> Any:
        """The first module's processor, for images and texts; its tokenizer where it has no other."""
        return getattr(self[0], "processor", None) or self.tokenizer

    @property
    def modalities(self) -> list[str]:
        """The kinds of inputs: "text", and "image" where the first module takes images."""
        return list(getattr(self[0], "modalities", ("text",)))

    def supports(self, modality: str) -> bool:
        """Whether the model takes inputs of this kind."""
        return modality in self.modalities

    @property
    def max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens."""
        limit: int | None = self._first_module().max_seq_length
        return limit

    @max_seq_length.setter
    def max_seq_length(self, value: int | None) -> None:
        self._first_module().max_seq_length = value

    def get_max_seq_length(self) -> int | None:
        """Texts are cut at this many tokens; None where the first module has no limit."""
        return getattr(self[0], "max_seq_length", None)

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        return str(getattr(self[0], "backend", "torch"))

    def get_backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        return self.backend

    @property
    def transformers_model(self) -> Any:
        """The transformers model, or None where the first module has none."""
        return getattr(self[0], "auto_model", None)

    def get_sentence_embedding_dimension(self) -> int | None:
        """D, the size of what `encode` returns; None where no module says."""
        size = output_dimension(list(self))
        if size is None or self.truncate_dim is None:
            return self.truncate_dim if size is None else size
        return min(size, self.truncate_dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Set whether pooling includes a prompt's tokens (INSTRUCTOR models leave them out)."""
        for module in self.modules():
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them.

        Args:
            activation_checkpointing_kwargs: For `torch.utils.checkpoint.checkpoint`.
            **options: As transformers' method of this name takes them, e.g. `every_n_layers`.
        """
        for module in self.modules():
            if isinstance(module, Transformer | CLIPModel):
                model = module.auto_model
                if hasattr(model, "activation_checkpointing_enable"):
                    model.activation_checkpointing_enable(activation_checkpointing_kwargs, **options)
                else:  # before transformers 5.24
                    model.gradient_checkpointing_enable(activation_checkpointing_kwargs, **options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    # Forward

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None
    ) -> BatchEncoding:
        """Padded features of texts, as `forward` takes them; a Router cuts them for the route of `task`."""
        from transformers import BatchEncoding

        first = self._first_module()
        options = {"task": task} if isinstance(first, Router) else {}
        features = BatchEncoding(padded_inputs(first, inputs, prompt, **options))
        self._report_truncation(getattr(first, "tokenization", None))
        return features

    def tokenize(self, texts: Sequence[Any], *args: Any, **kwargs: Any) -> BatchEncoding:
        """The older name of `preprocess`."""
        return self.preprocess(texts, *args, **kwargs)

    def token_sequences(
        self, texts: Sequence[Text], prompt: str | None = None, task: str | None = None
    ) -> TokenSequences:
        """Token ids of texts, cut at the maximum length.

        Args:
            texts: Strings, or pairs of strings.
            prompt: Put in front of every text.
            task: The route that a Router takes.
        """
        first = self._first_module()
        if isinstance(first, Router):
            first = first.first_module(task)
        sequences: TokenSequences = first.token_sequences(texts, prompt)
        self._report_truncation(getattr(first, "tokenization", None))
        return sequences

    def _report_truncation(self, tokenization: Tokenization | None) -> None:
        if tokenization is not None and tokenization.num_truncated and not self._reported_truncation:
            self._reported_truncation = True
            logger.warning(
                "%d of the first %d texts are longer than %d tokens and were cut there. Raise `model.max_seq_length` "
                "or split the texts if their ends matter.",
                tokenization.num_truncated,
                tokenization.num_texts,
                tokenization.max_length,
            )

    def forward(self, features: Features, **kwargs: Any) -> Features:  # type: ignore[override]
        """Run the modules.

        Args:
            features: Packed, `{"tokens": TokenBatch}`, or padded, as `tokenize` returns them.
            **kwargs: Passed on to the modules that declare them.

        Returns:
            The features, with `sentence_embedding` (N, D) among them.
        """
        for name, module in self.named_children():
            features = run_module(module, features, kwargs, self.module_kwargs.get(name, ()))
        return features

    # Encode

    def encode(
        self,
        inputs: str | Sequence[Text] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] | None = "sentence_embedding",
        precision: Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"] | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        sentences: str | Sequence[Text] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed texts, or images where the model takes them.

        Args:
            inputs: A text, or a list of texts (or of pairs of texts). For a model of images and texts also PIL images, and
                paths and URLs of images. `sentences` is the older name.
            prompt_name: The prompt to use, a key of `prompts`.
            prompt: The prompt itself; it wins over `prompt_name`.
            batch_size: How much goes through the model at once. The work is cut by tokens, not by texts: a batch holds
                about `batch_size` texts of 48 tokens on the CPU and of 512 tokens elsewhere. Lower it if memory is short.
            show_progress_bar: Whether to show progress; None for where logging is at INFO or below.
            output_value: `sentence_embedding`; `token_embeddings` for those of every token; None for all features.
            precision: float32 or None (the model's own), float16, or int8, uint8, binary, ubinary for quantised embeddings.
            convert_to_numpy: Whether to return one array; otherwise a list of tensors.
            convert_to_tensor: Whether to return one tensor, on the model's device; it wins over `convert_to_numpy`.
            device: Where to compute; None for where the model is. A list of devices starts a process on each.
            normalize_embeddings: Whether embeddings are scaled to length 1.
            truncate_dim: Embeddings are cut to this many entries; None for the model's own setting.
            pool: Processes to encode in, from `start_multi_process_pool`.
            chunk_size: Texts that a process gets at a time; None for a tenth of its share, 5,000 at most.
            out: A .npy file to write embeddings to, a few thousand texts at a time; returns it mapped into memory. A call
                that was stopped, made again, goes on where it was.
            sentences: See `inputs`.
            **kwargs: Passed on to the modules that declare them; `task` is accepted and used by routers.

        Returns:
            (N, D) for a list of texts, (D,) for one; see the arguments for other forms.

        Raises:
            TypeError: Something is not a text.
            ValueError: An argument is out of its range or unknown.
        """
        texts, single = encoding.as_list(sentences if inputs is None else inputs)
        precision = precision or "float32"
        if any(isinstance(module, Router) for module in self):
            texts, kwargs["task"] = without_task(texts, kwargs.get("task"))
        encoding.check_arguments(batch_size, precision, output_value, out is not None)
        self._check_known(kwargs)
        self._check_truncate_dim(truncate_dim)
        in_processes = pool is not None or isinstance(device, list | tuple)
        if device is not None and not in_processes:
            self.to(cast(str, device))
        request = inference.Request(
            prompt=self._resolve_prompt(prompt, prompt_name),
            token_budget=inference.token_budget(batch_size, self),
            truncate_dim=self.truncate_dim if truncate_dim is None else truncate_dim,
            normalize=normalize_embeddings,
            device=self.device,
            to_cpu=(not convert_to_tensor and convert_to_numpy) or out is not None,
            forward_kwargs=kwargs,
        )
        run = inference.RUNS[output_value]
        with ExitStack() as stack:
            stack.enter_context(encoding.evaluating(self))
            progress = stack.enter_context(encoding.progress_of(len(texts), show_progress_bar))
            if in_processes and pool is None:
                pool = stack.enter_context(WorkerPool(self, [str(name) for name in cast(Any, device)]))

            def embed(part: Sequence[Any]) -> Any:
                if pool is None:
                    return run(self, part, request, progress)
                return pool.run(part, request, output_value, batch_size, chunk_size, progress)

            if out is not None:
                output = OutputFile(out, texts, {**request.settings, "precision": precision})
                progress(output.done)
                return encoding.encode_to_file(output, texts, embed, precision, inference.WINDOW)
            found = embed(texts)
        if output_value == "sentence_embedding":
            found = encoding.converted(found, precision, convert_to_numpy, convert_to_tensor)
        return found[0] if single else found

    def start_multi_process_pool(self, target_devices: Sequence[str] | None = None) -> WorkerPool:
        """Start processes for `encode(pool=...)`, each with a copy of the model.

        Args:
            target_devices: A device for each process; None for every GPU, or four processes on the CPU without any.

        Returns:
            The pool; stop it with `stop_multi_process_pool`, or use it in a `with` statement.
        """
        return WorkerPool(self, default_devices() if target_devices is None else target_devices)

    @staticmethod
    def stop_multi_process_pool(pool: WorkerPool) -> None:
        """End the processes of a pool."""
        pool.stop()

    def encode_multi_process(
        self,
        sentences: Sequence[Text],
        pool: WorkerPool,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"] | None = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """The older name of `encode(sentences, pool=pool, ...)`."""
        return self.encode(
            sentences,
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            pool=pool,
            chunk_size=chunk_size,
        )

    def encode_query(
        self,
        inputs: str | Sequence[Text] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """`encode`, and its arguments, with the prompt named `query` unless another is asked for."""
        return self._encode_for("query", inputs, prompt_name, prompt, *args, **kwargs)

    def encode_document(
        self,
        inputs: str | Sequence[Text] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """`encode`, and its arguments, with the first of the prompts document, passage, corpus unless another is asked for."""
        return self._encode_for("document", inputs, prompt_name, prompt, *args, **kwargs)

    def _encode_for(self, task: str, *args: Any, **kwargs: Any) -> Any:
        named = signature(SentenceTransformer.encode).bind(self, *args, **kwargs).arguments
        kwargs = {"task": task, **named.pop("kwargs", {})}
        kwargs["prompt_name"] = self._task_prompt_name(
            task, named.pop("prompt_name", None), named.get("prompt")
        )
        return self.encode(**{name: value for name, value in named.items() if name != "self"}, **kwargs)

    def way_of_embedding(
        self, task: str | None = None, prompt_name: str | None = None, prompt: str | None = None
    ) -> tuple[str, str | None]:
        """What decides how a text is embedded: the prompt in front of it, and the task, if a module asks for one.

        Args:
            task: "query" for `encode_query`, "document" for `encode_document`, None for `encode`.
            prompt_name: As given to it.
            prompt: As given to it.
        """
        prompt = self._resolve_prompt(prompt, self._task_prompt_name(task, prompt_name, prompt))
        return prompt or "", task if "task" in self.get_model_kwargs() else None

    def _task_prompt_name(self, task: str | None, prompt_name: str | None, prompt: str | None) -> str | None:
        if prompt_name is not None or prompt is not None:
            return prompt_name
        return next((name for name in TASK_PROMPT_NAMES.get(task or "", ()) if name in self.prompts), None)

    def get_model_kwargs(self) -> list[str]:
        """The keyword arguments that this model's modules take from `encode`."""
        names = {name for kwargs in self.module_kwargs.values() for name in kwargs}
        for module in self:
            names.update(getattr(module, "forward_kwargs", ()))
        return sorted(names)

    def _check_known(self, kwargs: Mapping[str, Any]) -> None:
        unknown = set(kwargs) - set(self.get_model_kwargs()) - {"task"}
        if unknown:
            allowed = ", ".join(self.get_model_kwargs()) or "none"
            raise ValueError(
                f"encode() got {', '.join(sorted(unknown))}, which no module of this model takes (they take: {allowed})."
            )

    def _check_truncate_dim(self, dimension: int | None) -> None:
        if dimension is not None and (not isinstance(dimension, int) or dimension < 1):
            raise ValueError(f"`truncate_dim` must be a whole number of at least 1, but is {dimension!r}.")

    def _resolve_prompt(self, prompt: str | None, prompt_name: str | None) -> str | None:
        if prompt is not None:
            if prompt_name is not None:
                logger.warning("Both `prompt` and `prompt_name` were given; `prompt_name` is ignored.")
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        return None if name is None else self._prompt_named(name)

    def _prompt_named(self, name: str) -> str:
        if name not in self.prompts:
            raise ValueError(
                f"There is no prompt named {name!r}. This model has: {', '.join(self.prompts)}. "
                f"Choose one of these, or add it: `prompts={{{name!r}: ...}}`."
            )
        return self.prompts[name]

    # Similarity

    @property
    def similarity_fn_name(self) -> Literal["cosine", "dot", "euclidean", "manhattan"]:
        """How embeddings are compared."""
        if self._similarity_fn_name is None:
            self._similarity_fn_name = "cosine"
        return cast(Literal["cosine", "dot", "euclidean", "manhattan"], self._similarity_fn_name)

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        if value is not None:
            SimilarityFunction.to_similarity_fn(value)  # refuses an unknown name
        self._similarity_fn_name = value.value if isinstance(value, SimilarityFunction) else value

    @property
    def similarity(self) -> Similarity:
        """Scores of all pairs: `similarity(a, b)`, (N, D), (M, D) -> (N, M)."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)

    @property
    def similarity_pairwise(self) -> Similarity:
        """Scores row by row: `similarity_pairwise(a, b)`, (N, D), (N, D) -> (N,)."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Within this context, `encode` cuts embeddings to `truncate_dim` entries."""
        self._check_truncate_dim(truncate_dim)
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

    # Adapters and faster forms

    def _adaptable(self) -> Any:
        """The transformers model, which does the work with adapters.

        Raises:
            ValueError: The first module has none.
        """
        if self.transformers_model is None:
            raise ValueError(
                f"Adapters are for models with a Transformer module, but the first is {type(self[0]).__name__}."
            )
        return self.transformers_model

    def load_adapter(
        self, peft_model_id: str | os.PathLike[str], adapter_name: str = "default", is_trainable: bool = False
    ) -> None:
        """Load an adapter from a folder or the Hub, and use it."""
        folder = storage.find_folder(peft_model_id)
        adapters.load_adapter(self._adaptable(), folder, adapter_name, is_trainable)

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """Add a fresh adapter (a `peft.LoraConfig`, say) and use it; only adapters are trained from then on."""
        adapters.add_adapter(self._adaptable(), adapter_config, adapter_name)

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Use this adapter, or these, and no others."""
        adapters.set_adapter(self._adaptable(), adapter_name)

    def disable_adapters(self) -> None:
        """Compute without adapters."""
        adapters.enable_adapters(self._adaptable(), False)

    def enable_adapters(self) -> None:
        """Compute with the adapters again."""
        adapters.enable_adapters(self._adaptable(), True)

    def active_adapters(self) -> list[str]:
        """The names of the adapters in use."""
        return adapters.active_adapters(self._adaptable())

    def active_adapter(self) -> str:
        """The name of the first adapter in use."""
        return self.active_adapters()[0]

    def get_adapter_state_dict(self, adapter_name: str | None = None) -> dict[str, Tensor]:
        """The weights of an adapter, by default of the one in use."""
        return adapters.adapter_state(self._adaptable(), adapter_name)

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Take adapters off."""
        adapters.delete_adapter(self._adaptable(), adapter_names)

    def merge_adapters(self) -> None:
        """Add the active adapters' weights to the model's own and take the adapters off; embeddings stay the same."""
        adapters.merge_adapters(self._adaptable())

    def use_int8_weights(
        self, texts: Sequence[Text], min_cosine: float = 0.98, min_speedup: float = 1.1
    ) -> Int8Probe:
        """Compute with int8 weights on the CPU, if that proves faster here and close enough on these texts.

        What is saved and what is trained are the float weights. They are faster on processors with int8 instructions (AVX-512
        VNNI), and finer there.

        Args:
            texts: Some hundred texts like those to be embedded; 256 of them are tried.
            min_cosine: The least cosine between any text's embeddings with int8 weights and without.
            min_speedup: The least gain in speed.

        Returns:
            What was measured, and whether int8 weights are used.
        """
        return probe(self, texts, min_cosine, min_speedup)

    @classmethod
    def merge(
        cls,
        models: Sequence[str | os.PathLike[str] | SentenceTransformer],
        method: str = "linear",
        *,
        base_model: str | os.PathLike[str] | SentenceTransformer | None = None,
        parameters: Mapping[str, Any] | None = None,
        dtype: str | torch.dtype | None = torch.float32,
        out_dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        batch_options: Any = None,
        **load_kwargs: Any,
    ) -> SentenceTransformer:
        """One model whose weights are a mixture of those of several fine-tunes of the same model.

        Args:
            models: Models, folders or names; settings, prompts and tokenizer are those of the first.
            method: "linear", "slerp", or a method of mergekit (`pip install "likewise[merge]"`).
            base_model: The model that a method with a base starts from; for "slerp" the first one by default.
            parameters: Of the method: `weight` (one for all, a list, or by number; default 1) and `normalize` (default
                True) for "linear", `t` from 0 to 1 (default 0.5) for "slerp".
            dtype: What is computed in; None for the models' own.
            out_dtype: What the merged weights are cast to; None leaves them.
            device: Where it is computed, and where the result is.
            batch_options: mergekit's, for its methods.
            **load_kwargs: For loading folders and names.

        Raises:
            ImportError: The method needs mergekit.
            ValueError: The models do not fit each other, or the parameters the method.
        """
        from likewise.model.merging import merge_models

        return merge_models(
            cls, models, method, base_model, parameters, dtype, out_dtype, device, batch_options, load_kwargs
        )

    # Evaluate, save, publish

    def evaluate(self, evaluator: Any, output_path: str | None = None) -> Any:
        """Run an evaluator on this model; csv files go to `output_path`."""
        if output_path is not None:
            Path(output_path).mkdir(parents=True, exist_ok=True)
        return evaluator(self, output_path)

    def fit(self, train_objectives: Iterable[tuple[Any, nn.Module]], *args: Any, **kwargs: Any) -> None:
        """Train from data loaders of InputExample, as before there was a trainer; the trainer does the work.

        Args:
            train_objectives: Pairs of a data loader and a loss. They take turns, one batch each, until the shortest ends.
            evaluator: Runs after each epoch, and every `evaluation_steps` steps.
            epochs: How often the shortest data loader is gone through. Default 1.
            steps_per_epoch: Batches of each data loader in an epoch; they start over as needed. None for all.
            scheduler: ConstantLR, WarmupConstant, WarmupLinear (the default), WarmupCosine or
                WarmupCosineWithHardRestarts.
            warmup_steps: Steps over which the learning rate rises. Default 10,000.
            optimizer_class: Default torch's AdamW.
            optimizer_params: Its arguments. Default `{"lr": 2e-5}`.
            weight_decay: Of weights that are no biases or LayerNorms. Default 0.01.
            evaluation_steps: Evaluate every so many steps; 0 for after each epoch only.
            output_path: Where the model is saved.
            save_best_model: Whether that is the one with the best score, rather than the last.
            max_grad_norm: Gradients are cut at this norm. Default 1.
            use_amp: Whether to compute in half precision.
            callback: Called with score, epoch and step after each evaluation.
            show_progress_bar: Whether to show one.
            checkpoint_path: Where checkpoints are kept.
            checkpoint_save_steps: Steps from one to the next. Default 500.
            checkpoint_save_total_limit: Keep so many; 0 for all.
            resume_from_checkpoint: Whether to go on from the newest checkpoint.
            *args: These, in this order.
            **kwargs: These, by name.
        """
        from likewise.legacy.fit import fit

        fit(self, train_objectives, *args, **kwargs)

    old_fit = fit

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Examples -> one dict of padded features for each text column, and the labels."""
        from likewise.legacy.fit import smart_batching_collate

        return smart_batching_collate(self, batch)

    def save(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model to a folder, from which this library and the reference load it.

        Args:
            path: The folder; made if it does not exist.
            model_name: The model's name in the card.
            create_model_card: Whether to write README.md.
            train_datasets: Names of the training data, for the card.
            safe_serialization: Whether weights are written as safetensors.
        """
        folder = Path(path)
        settings: dict[str, Any] = {
            "model_type": "SentenceTransformer",
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "similarity_fn_name": self.similarity_fn_name,
        }
        if self.truncate_dim is not None:
            settings["truncate_dim"] = self.truncate_dim
        storage.save(dict(self.named_children()), self.module_kwargs, settings, folder, safe_serialization)
        if create_model_card:
            self._create_model_card(folder, model_name, train_datasets)

    save_pretrained = save

    def _create_model_card(
        self,
        folder: str | os.PathLike[str],
        model_name: str | None = None,
        train_datasets: list[str] | None = None,
    ) -> None:
        from likewise.card import write_model_card

        write_model_card(self, Path(folder), model_name, train_datasets)

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model to the Hub. A lost connection is tried again; the model here is not touched.

        Args:
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
        return hub.push(
            self,
            repo_id,
            token=token,
            private=private,
            safe_serialization=safe_serialization,
            commit_message=commit_message,
            local_model_path=local_model_path,
            exist_ok=exist_ok,
            replace_model_card=replace_model_card,
            train_datasets=train_datasets,
            revision=revision,
            create_pr=create_pr,
        )

    def save_to_hub(self, repo_id: str, organization: str | None = None, *args: Any, **kwargs: Any) -> str:
        """The older name of `push_to_hub`.

        Args:
            repo_id: `name` or `organisation/name`.
            organization: The organisation, if it is not in `repo_id`.
            *args: Of `push_to_hub`, from `token` on.
            **kwargs: Of `push_to_hub`.

        Raises:
            ValueError: `organization` is not the one in `repo_id`.
        """
        logger.warning('`save_to_hub` is deprecated; call `push_to_hub("organisation/name")`.')
        return self.push_to_hub(hub.with_organization(repo_id, organization), *args, **kwargs)


def _named(modules: Sequence[nn.Module] | OrderedDict[str, nn.Module]) -> dict[str, nn.Module]:
    named = (
        dict(modules)
        if isinstance(modules, Mapping)
        else {str(i): module for i, module in enumerate(modules)}
    )
    if not named:
        raise ValueError("`modules` is empty; a model needs at least one module, e.g. a Transformer.")
    return named


def _texts(prompts: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: text or "" for name, text in (prompts or {}).items()}
