"""SparseEncoder: a model that gives each text a weight for a few entries of a vocabulary."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from likewise.card import write_model_card
from likewise.checked import positive_or_none
from likewise.model import encoding, inference
from likewise.model.model import Model
from likewise.model.pool import WorkerPool
from likewise.modules import Pooling, Router
from likewise.modules.router import output_dimension
from likewise.modules.text import Text
from likewise.similarity import Similarity, SimilarityFunction, name_for_whole_texts
from likewise.sparse_encoder import sparse_tensors, storage
from likewise.sparse_encoder.model_card import SparseEncoderModelCardData, kind_of
from likewise.sparse_encoder.modules import SparseAutoEncoder, SpladePooling

logger = logging.getLogger(__name__)


class SparseEncoder(Model):
    """Turns texts into sparse embeddings, each with a few active entries, which say what the text is about.

    Args:
        model_name_or_path: A folder, or a name on the Hub (a bare one is looked for under `sparse-encoder/` too). A masked
            language model gets SpladePooling; other models and SentenceTransformers get a new SparseAutoEncoder.
        modules: The modules, in order, to build a model from scratch.
        device: Where it computes; None for the best device at hand.
        prompts: Named texts to put in front of the inputs, e.g. `{"query": "query: "}`.
        default_prompt_name: The prompt that `encode` uses when none is asked for; a key of the prompts.
        similarity_fn_name: cosine, dot, euclidean or manhattan; None for the saved one, else dot.
        cache_folder: Where downloads are kept.
        trust_remote_code: Whether code that comes with the model may run.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Whether only what was downloaded before may be used.
        token: Access token for the Hub.
        model_kwargs: For transformers' `from_pretrained` of the model. With `attn_implementation` the model pads.
        processor_kwargs: For `AutoTokenizer.from_pretrained`.
        config_kwargs: For `AutoConfig.from_pretrained`.
        model_card_data: What the model card says.
        backend: What computes the Transformer: "torch", "onnx" or "openvino".
        max_active_dims: Embeddings keep this many entries, those of the largest absolute value; None for all, or for the `k` of
            a SparseAutoEncoder.
        tokenizer_kwargs: The older name of `processor_kwargs`.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The folder is damaged or not trusted, or an argument does not fit the model.

    Examples:
        >>> model = SparseEncoder("naver/splade-v3")  # doctest: +SKIP
        >>> embeddings = model.encode(["It is raining.", "Wet weather today."])  # doctest: +SKIP
        >>> model.decode(embeddings, top_k=5)  # doctest: +SKIP
    """

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")

    model_type = "SparseEncoder"
    model_card_data_class = SparseEncoderModelCardData
    stored_in = staticmethod(storage.load)
    default_prompts: ClassVar[Mapping[str, str]] = {"query": "", "document": ""}
    default_huggingface_organization = storage.ORGANISATION
    _similarity_fn_name: str | None = None
    truncate_dim = None  # entries stand for words, so that the first of them say no more than others

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
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
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        max_active_dims: int | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        positive_or_none(max_active_dims, "max_active_dims")
        if model_name_or_path is None and not modules:
            raise ValueError("Pass `model_name_or_path`, or `modules` with at least one module.")
        if model_name_or_path is not None and modules is not None:
            logger.warning("`modules` are ignored, since `model_name_or_path` is given too.")
        stored, folder = self._stored(
            model_name_or_path, modules, (cache_folder, revision, local_files_only, token), trust_remote_code,
            model_kwargs, {**(tokenizer_kwargs or {}), **(processor_kwargs or {})}, config_kwargs, backend,
        )  # fmt: skip
        super().__init__(stored, prompts, default_prompt_name, trust_remote_code, model_card_data)
        storage.check_modules(self)
        settings = stored.settings
        self.similarity_fn_name = similarity_fn_name or settings.get("similarity_fn_name")
        k = next((module.k for module in self if isinstance(module, SparseAutoEncoder)), None)
        saved = settings.get("max_active_dims") or k
        self.max_active_dims: int | None = saved if max_active_dims is None else max_active_dims
        self._unify_dtype()
        self._settle(folder, revision, device, model_kwargs)

    def get_embedding_dimension(self) -> int | None:
        """V, the size of what `encode` returns; None where no module says."""
        return output_dimension(list(self))

    get_sentence_embedding_dimension = get_embedding_dimension

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Set whether a Pooling includes a prompt's tokens."""
        for module in self.modules():
            if isinstance(module, Pooling):
                module.include_prompt = include_prompt

    @property
    def splade_pooling_chunk_size(self) -> int | None:
        """Tokens whose logits exist at the same time; None for what suits the device, or without SpladePooling."""
        return next((m.chunk_size for m in self.modules() if isinstance(m, SpladePooling)), None)

    @splade_pooling_chunk_size.setter
    def splade_pooling_chunk_size(self, value: int | None) -> None:
        found = [module for module in self.modules() if isinstance(module, SpladePooling)]
        if not found:
            raise ValueError(f"`splade_pooling_chunk_size` is {value!r}, but the model has no SpladePooling.")
        for module in found:
            module.chunk_size = value

    # Encode

    def encode(
        self,
        inputs: str | Sequence[Text] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        save_to_cpu: bool = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        max_active_dims: int | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        sentences: str | Sequence[Text] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed texts. The model is in eval mode from then on.

        Args:
            inputs: A text, or a list of texts (or of pairs of texts). `sentences` is the older name.
            prompt_name: The prompt to use, a key of `prompts`.
            prompt: The prompt itself; it wins over `prompt_name`.
            batch_size: How much goes through the model at once. The work is cut by tokens, not by texts: a batch holds
                about `batch_size` texts of 32 tokens on the CPU and of 512 tokens elsewhere.
            show_progress_bar: Whether to show progress; None for where logging is at INFO or below.
            convert_to_tensor: Whether to return one tensor; otherwise a list of (V,) tensors.
            convert_to_sparse_tensor: Whether tensors are sparse (COO); dense ones of all texts may take much memory.
            save_to_cpu: Whether the result is on the CPU, wherever the model is.
            device: Where to compute; None for where the model is. A list of devices starts a process on each.
            max_active_dims: Keep this many entries of each, those of the largest absolute value; None for the model's own.
            pool: Processes to encode in, from `start_multi_process_pool`; the result is on the CPU then.
            chunk_size: Texts that a process gets at a time; None for a tenth of its share, 5,000 at most.
            sentences: See `inputs`.
            **kwargs: Passed on to the modules that declare them; `task` is accepted and used by routers, `processing_kwargs`
                by what reads the texts.

        Returns:
            (N, V) for a list of texts, (V,) for one.

        Raises:
            TypeError: Something is not a text.
            ValueError: An argument is out of its range or unknown.
        """
        texts, single = encoding.inputs_of(self, sentences if inputs is None else inputs, kwargs)
        self._check_known(kwargs)
        positive_or_none(max_active_dims, "max_active_dims")
        dims = self.max_active_dims if max_active_dims is None else max_active_dims
        request = encoding.request_for(
            self, prompt, prompt_name, batch_size, device, pool,
            kwargs | ({} if dims is None else {"max_active_dims": dims}),
            to_cpu=save_to_cpu or encoding.is_in_processes(device, pool),
        )  # fmt: skip
        bar = encoding.progress_of(len(texts), show_progress_bar, logger)
        with encoding.running(self, pool, device, bar) as (progress, pool):
            if pool is None or not len(texts):
                found = self._embed(texts, request, dims, convert_to_sparse_tensor, progress)
            else:
                options = {"prompt": request.prompt or "", "batch_size": batch_size, "save_to_cpu": True}
                options |= {"convert_to_sparse_tensor": convert_to_sparse_tensor, **kwargs}
                parts = pool.map(texts, options | {"max_active_dims": dims}, chunk_size, progress)
                found = torch.cat(parts)
                found = found.coalesce() if found.is_sparse else found
        return found[0] if single else found if convert_to_tensor else sparse_tensors.rows_of(found)

    def _embed(
        self,
        texts: Sequence[Any],
        request: inference.Request,
        dims: int | None,
        to_sparse: bool,
        progress: Any,
    ) -> Tensor:
        """(N, V), COO or dense."""
        device = torch.device("cpu") if request.to_cpu else request.device
        rows, dense = sparse_tensors.SparseRows(len(texts), device), torch.empty(0, device=device)
        for numbers, features in inference.run_batches(cast(Any, self), texts, request, progress):
            if "sentence_embedding" not in features:
                raise ValueError(
                    f"The modules of this model ({', '.join(type(module).__name__ for module in self)}) give no "
                    "`sentence_embedding`. Add one that makes it, e.g. SpladePooling."
                )
            batch = features["sentence_embedding"]
            batch = batch if dims is None else sparse_tensors.select_max_active_dims(batch, dims)
            places = torch.from_numpy(numbers)
            if to_sparse:
                rows.put(places, batch)
            else:
                dense = dense if dense.numel() else batch.new_empty(len(texts), batch.shape[1], device=device)
                dense[places.to(device)] = batch.to(device)
        return rows.result() if to_sparse else dense

    def encode_query(self, *args: Any, **kwargs: Any) -> Any:
        """`encode`, and its arguments, with the prompt named `query` unless another is asked for."""
        return encoding.encode_for(SparseEncoder.encode, self, "query", *args, **kwargs)

    def encode_document(self, *args: Any, **kwargs: Any) -> Any:
        """`encode`, and its arguments, with the first of the prompts document, passage, corpus unless another is asked for."""
        return encoding.encode_for(SparseEncoder.encode, self, "document", *args, **kwargs)

    way_of_embedding = encoding.way_of_embedding

    # Embeddings

    @property
    def similarity_fn_name(self) -> Literal["cosine", "dot", "euclidean", "manhattan"]:
        """How embeddings are compared."""
        if self._similarity_fn_name is None:
            self._similarity_fn_name = "dot"
        return cast(Literal["cosine", "dot", "euclidean", "manhattan"], self._similarity_fn_name)

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        self._similarity_fn_name = None if value is None else name_for_whole_texts(value)

    @property
    def similarity(self) -> Similarity:
        """Scores of all pairs: `similarity(a, b)`, (N, V), (M, V) -> (N, M), dense, of COO or dense embeddings."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)

    @property
    def similarity_pairwise(self) -> Similarity:
        """Scores row by row: `similarity_pairwise(a, b)`, (N, V), (N, V) -> (N,)."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)

    @staticmethod
    def sparsity(embeddings: Tensor) -> dict[str, float]:
        """The mean number of active dimensions of a row, `active_dims`, and the share of those that are not, `sparsity_ratio`."""
        return sparse_tensors.sparsity(embeddings)

    def intersection(self, embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
        """What two texts have in common: the products, entry by entry, that are positive, as COO.

        Args:
            embeddings_1: (V,).
            embeddings_2: (V,), or (N, V) to compare with each.
        """
        return sparse_tensors.intersection(embeddings_1, embeddings_2)

    def decode(self, embeddings: Tensor, top_k: int | None = None) -> Any:
        """The tokens that the active entries stand for, with their weights, the heaviest first.

        Args:
            embeddings: (V,) or (N, V), COO or dense.
            top_k: How many at most; None for all.

        Returns:
            A list of (token, weight); of (N, V) a list of such lists.

        Raises:
            TypeError: They are no tensor.
            ValueError: `top_k` is less than 1.
        """
        if not isinstance(embeddings, Tensor):
            raise TypeError(
                f"`embeddings` must be a tensor, as `encode` gives, but is {type(embeddings).__name__}."
            )
        positive_or_none(top_k, "top_k", "Drop it for all tokens.")
        first: Any = self[0]
        tokenizer = (first.first_module() if isinstance(first, Router) else first).tokenizer
        is_one = embeddings.ndim == 1 and embeddings.numel() > 0
        rows = [embeddings] if is_one else sparse_tensors.rows_of(embeddings) if embeddings.numel() else []
        found = [sparse_tensors.decoded_row(row, tokenizer, top_k) for row in rows]
        return found[0] if is_one else found

    # Save

    readable_since = storage.READABLE_SINCE

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings() | {"similarity_fn_name": self.similarity_fn_name}
        return settings | ({} if self.max_active_dims is None else {"max_active_dims": self.max_active_dims})

    def _create_model_card(
        self,
        folder: str | os.PathLike[str],
        model_name: str | None = None,
        train_datasets: list[str] | None = None,
    ) -> None:
        words = kind_of(self).replace("Inference-free", "inference-free").lower().split()
        self.model_card_data.add_tags(words)
        write_model_card(self, Path(folder), model_name, train_datasets)
