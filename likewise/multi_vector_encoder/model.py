"""MultiVectorEncoder: an embedding for each token of a text, compared by late interaction."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from likewise.card import write_model_card
from likewise.checked import whole
from likewise.model import encoding, inference
from likewise.model.model import Model
from likewise.model.pool import WorkerPool
from likewise.modules import Router, Transformer
from likewise.modules.base import Features
from likewise.modules.router import output_dimension
from likewise.multi_vector_encoder import maxsim_scores, storage
from likewise.multi_vector_encoder.model_card import MultiVectorEncoderModelCardData
from likewise.multi_vector_encoder.modules.multi_vector_mask import MultiVectorMask
from likewise.multi_vector_encoder.modules.token_pooling import BaseTokenPooling
from likewise.multi_vector_encoder.token_embeddings import TokenEmbeddings

logger = logging.getLogger(__name__)

SIMILARITIES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "maxsim": (maxsim_scores.maxsim, maxsim_scores.maxsim_pairwise),
    "meanmaxsim": (maxsim_scores.mean_maxsim, maxsim_scores.mean_maxsim_pairwise),
}
Pooling = BaseTokenPooling | Callable[[Tensor], Tensor]


class MultiVectorEncoder(Model):
    """Turns each text into an embedding for every token of it; texts are compared by late interaction, as in ColBERT.

    Args:
        model_name_or_path: A folder, or a name on the Hub: a MultiVectorEncoder, a model of PyLate's or of Stanford's ColBERT;
            or an embedding model or plain transformers model, which gets what it lacks, a projection of tokens among it.
        modules: The modules, in order, to build a model from scratch; together they set `token_embeddings`.
        device: Where it computes; None for the best device at hand.
        prompts: Named texts to put in front of the inputs, e.g. `{"query": "[Q] ", "document": "[D] "}`.
        default_prompt_name: The prompt that `encode` uses when none is asked for; a key of the prompts.
        similarity_fn_name: "maxsim" or "meanmaxsim"; None for the saved one, else "maxsim".
        cache_folder: Where downloads are kept.
        trust_remote_code: Whether code that comes with the model may run.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Whether only what was downloaded before may be used.
        token: Access token for the Hub.
        model_kwargs: For `AutoModel.from_pretrained`. With `attn_implementation` the model pads.
        processor_kwargs: For `AutoTokenizer.from_pretrained`.
        config_kwargs: For `AutoConfig.from_pretrained`.
        model_card_data: What the model card says.
        backend: What computes the Transformer: "torch", "onnx" or "openvino".

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The folder is damaged or not trusted, or an argument does not fit the model.

    Examples:
        >>> model = MultiVectorEncoder("lightonai/GTE-ModernColBERT-v1")  # doctest: +SKIP
        >>> queries = model.encode_query(["What is late interaction?"])  # doctest: +SKIP
        >>> documents = model.encode_document(["Tokens are compared with tokens.", "It rains."])  # doctest: +SKIP
        >>> model.similarity(queries, documents)  # doctest: +SKIP
    """

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = tuple(SIMILARITIES)

    model_type = "MultiVectorEncoder"
    model_card_data_class = MultiVectorEncoderModelCardData
    stored_in = staticmethod(storage.load)
    default_prompts: ClassVar[Mapping[str, str]] = {"query": "", "document": ""}

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Sequence[nn.Module] | OrderedDict[str, nn.Module] | None = None,
        device: str | torch.device | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: MultiVectorEncoderModelCardData | None = None,
        backend: Literal["torch", "onnx", "openvino"] = "torch",
        similarity_fn_name: str | None = None,
    ) -> None:
        if model_name_or_path is None and modules is None:
            raise ValueError("Pass `model_name_or_path`, or `modules` to build a model from.")
        if model_name_or_path is not None and modules is not None:
            logger.warning("`modules` are ignored, since `model_name_or_path` is given too.")
        stored, folder = self._stored(
            model_name_or_path, modules, (cache_folder, revision, local_files_only, token), trust_remote_code,
            model_kwargs, processor_kwargs, config_kwargs, backend,
        )  # fmt: skip
        super().__init__(stored, prompts, default_prompt_name, trust_remote_code, model_card_data)
        saved = stored.settings.get("similarity_fn_name")
        self._similarity_fn_name = "maxsim"
        self.similarity_fn_name = similarity_fn_name or (saved if saved in SIMILARITIES else None)
        self._warn_of_expansion()
        self._unify_dtype()
        self._settle(folder, revision, device, model_kwargs)

    def _warn_of_expansion(self) -> None:
        expands = any(isinstance(module, Transformer) and module.query_expansion for module in self.modules())
        if expands and not any(isinstance(module, MultiVectorMask) for module in self.modules()):
            logger.warning(
                "`query_expansion` is set, but the tokens that it adds are not scored: the model has no MultiVectorMask, which says "
                "so. Put one behind the Transformer."
            )

    def get_embedding_dimension(self) -> int | None:
        """D, the size of a token's embedding; None where no module says."""
        return output_dimension(list(self))

    def token_sequences(
        self, texts: Any, prompt: Any = None, task: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As every model's; says once if texts of a task were cut at a limit of theirs."""
        sequences = super().token_sequences(texts, prompt, task, *args, **kwargs)
        first: Any = self[0].first_module(task) if isinstance(self[0], Router) else self[0]
        if isinstance(first, Transformer):
            self._report_truncation(first.tokenization_for(task, *args, **kwargs))
        return sequences

    def forward(self, features: Features, **kwargs: Any) -> Features:  # type: ignore[override]
        """Run the modules.

        Args:
            features: Packed, `{"tokens": TokenBatch}`, or padded, as `preprocess` returns them.
            **kwargs: Passed on to the modules that declare them.

        Returns:
            The features, with `multi_vector_embedding`, TokenEmbeddings of N texts, among them.
        """
        features = super().forward(features, **kwargs)
        features["multi_vector_embedding"] = TokenEmbeddings.of(features)
        return features

    # Encode

    def encode(
        self,
        inputs: str | Sequence[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: Literal["token_embeddings"] | None = "token_embeddings",
        convert_to_numpy: bool = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        normalize_embeddings: bool = False,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        token_pooling: Pooling | None = None,
        task: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embed the tokens of texts. The model is in eval mode from then on.

        Args:
            inputs: A text, or a list of texts.
            prompt_name: The prompt to use, a key of `prompts`.
            prompt: The prompt itself; it wins over `prompt_name`.
            batch_size: How much goes through the model at once. The work is cut by tokens, not by texts: a batch holds
                about `batch_size` texts of 32 tokens on the CPU and of 512 tokens elsewhere.
            show_progress_bar: Whether to show progress; None for where logging is at INFO or below.
            output_value: `token_embeddings`; None for all features of each text.
            convert_to_numpy: Whether to return arrays; otherwise tensors, on the model's device.
            device: Where to compute; None for where the model is. A list of devices starts a process on each.
            normalize_embeddings: Whether each token's embedding is scaled to length 1.
            pool: Processes to encode in, from `start_multi_process_pool`; what they return is on the CPU.
            chunk_size: Texts that a process gets at a time; None for a tenth of its share, 5,000 at most.
            token_pooling: Makes fewer embeddings of each text's, beside a pooling that the model has.
            task: What the texts are for, "query" or "document".
            **kwargs: Passed on to the modules that declare them; `processing_kwargs` to what reads the texts.

        Returns:
            A list of (tokens, D) in the order of the texts, only of tokens that are scored; for one text its (tokens, D).

        Raises:
            TypeError: Something is not a text.
            ValueError: An argument is out of its range or unknown.
        """
        kwargs["task"] = task
        texts, single = encoding.inputs_of(self, inputs, kwargs)
        self._check_encode(output_value, kwargs)
        request = encoding.request_for(
            self, prompt, prompt_name, batch_size, device, pool, kwargs,
            to_cpu=convert_to_numpy,
            normalize=normalize_embeddings,
        )  # fmt: skip
        bar = encoding.progress_of(len(texts), show_progress_bar, logger)
        with encoding.running(self, pool, device, bar) as (progress, pool):
            if pool is not None:
                options = {
                    "prompt": request.prompt or "", "batch_size": batch_size, "output_value": output_value,
                    "normalize_embeddings": normalize_embeddings, "token_pooling": token_pooling, **kwargs,
                }  # fmt: skip
                parts = pool.map(texts, options, chunk_size, progress)
                found = [one for part in parts for one in part]
            elif output_value is None:
                found = self._features(texts, request, token_pooling, progress)
            else:
                found = self._embeddings(texts, request, token_pooling, progress)
        if convert_to_numpy and output_value is not None:
            found = [(one.float() if one.dtype == torch.bfloat16 else one).cpu().numpy() for one in found]
        return found[0] if single else found

    def _check_encode(self, output_value: str | None, kwargs: Mapping[str, Any]) -> None:
        if output_value not in ("token_embeddings", None):
            raise ValueError(
                f"`output_value` must be 'token_embeddings' or None, but is {output_value!r}: a MultiVectorEncoder has no embedding "
                "of a whole text."
            )
        for name in ("convert_to_tensor", "truncate_dim", "precision"):
            if name in kwargs:
                raise ValueError(
                    f"encode() of a MultiVectorEncoder takes no `{name}`: it returns a list of tensors, whose lengths differ. Drop it; "
                    "`convert_to_numpy=True` gives arrays."
                )
        self._check_known(kwargs)

    def _embeddings(
        self, texts: Sequence[Any], request: inference.Request, pooling: Pooling | None, progress: Any
    ) -> list[Tensor]:
        results: list[Tensor] = [torch.empty(0)] * len(texts)
        for rows, features in inference.run_batches(cast(Any, self), texts, request, progress):
            found: TokenEmbeddings = features["multi_vector_embedding"]
            if request.normalize:
                found = TokenEmbeddings(normalize(found.vectors, dim=-1), found.lengths)
            for row, embeddings in zip(rows.tolist(), found, strict=True):
                # A copy, not a view that would keep the whole batch alive.
                results[row] = self._pooled(embeddings, pooling, request.task).to(
                    "cpu" if request.to_cpu else embeddings.device, copy=True
                )
        return results

    def _pooled(self, embeddings: Tensor, pooling: Pooling | None, task: str | None) -> Tensor:
        if pooling is None:
            return embeddings
        if isinstance(pooling, BaseTokenPooling):
            return pooling.pool_one(embeddings) if pooling.applies_to(task) else embeddings
        return pooling(embeddings)

    def _features(
        self, texts: Sequence[Any], request: inference.Request, pooling: Pooling | None, progress: Any
    ) -> list[dict[str, Any]]:
        if pooling is not None and not isinstance(pooling, BaseTokenPooling):
            raise ValueError("With `output_value=None`, `token_pooling` must be a BaseTokenPooling.")
        found = inference.all_features(cast(Any, self), texts, request, progress)
        for features in found:
            del features["multi_vector_embedding"]  # a batch's
        for features in found if pooling is not None else ():
            kept = features["attention_mask"].bool()
            pooled = cast(Any, pooling).pool([features["token_embeddings"][kept]], task=request.task)[0]
            features["token_embeddings"], features["attention_mask"] = pooled, torch.ones(len(pooled)).long()
        return found

    def _compared(self, texts: Sequence[Any]) -> Tensor:
        """(N, L * D): the tokens of each text, one behind the other."""
        return pad_sequence(self.encode(texts, show_progress_bar=False), batch_first=True).flatten(1)

    def encode_query(self, inputs: str | Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        """`encode`, and its arguments, for the task "query", with the prompt of that name unless another is asked for."""
        return encoding.encode_for(MultiVectorEncoder.encode, self, "query", inputs, *args, **kwargs)

    def encode_document(self, inputs: str | Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        """`encode`, and its arguments, for the task "document", with the first of the prompts document, passage, corpus."""
        return encoding.encode_for(MultiVectorEncoder.encode, self, "document", inputs, *args, **kwargs)

    # Similarity

    @property
    def similarity_fn_name(self) -> str:
        """How texts are compared: "maxsim" or "meanmaxsim"."""
        return self._similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        if value is None:
            return
        value = getattr(value, "value", value)
        if value not in SIMILARITIES:
            hint = " XTR ranks tokens within a batch: pass `XTRScores()` to a loss." if value == "xtr" else ""
            raise ValueError(
                f"`similarity_fn_name` of a MultiVectorEncoder must be one of {', '.join(SIMILARITIES)}, but is {value!r}.{hint}"
            )
        self._similarity_fn_name = value

    def similarity(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Tensor:
        """Scores of all queries with all documents, (A, B) float32, on the documents' device.

        Args:
            embeddings1: Those of the queries, as `encode` gives them: a list of (tokens, D); padded, (A, tokens, D); or one text's.
            embeddings2: Those of the documents, likewise.
            **kwargs: Of `likewise.util.maxsim`: `device`, `chunk_elements`, `length_normalize`.
        """
        return SIMILARITIES[self.similarity_fn_name][0](embeddings1, embeddings2, **kwargs)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any, **kwargs: Any) -> Tensor:
        """Scores of each query with the document of its number, (N,); arguments as of `similarity`."""
        return SIMILARITIES[self.similarity_fn_name][1](embeddings1, embeddings2, **kwargs)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Order documents by their score with a query.

        Args:
            query: The query.
            documents: The documents.
            top_k: How many of the best to return; None for all.
            return_documents: Whether to return their texts too.
            **kwargs: For `encode` of the documents.

        Returns:
            One dict for each document, best first, with `corpus_id` (its place in `documents`), `score` and, if asked for,
            `text`. Documents with equal scores keep their order.

        Raises:
            TypeError: The query or a document is not a text, or `top_k` no whole number.
        """
        are_keys = isinstance(documents, Mapping) or hasattr(documents, "columns")  # of a dict or a frame
        if not isinstance(query, str) or isinstance(documents, str | None) or are_keys:
            raise TypeError(
                f"`rank` takes a query and a list of documents, but got {query!r:.40} and {documents!r:.40}."
            )
        if top_k is not None and whole(top_k) is None:
            raise TypeError(f"`top_k` must be a whole number, but is {top_k!r}. None returns all.")
        if not len(documents):
            return []
        scores = self.similarity([self.encode_query(query)], self.encode_document(list(documents), **kwargs))[
            0
        ]
        order = scores.argsort(descending=True, stable=True)[:top_k].tolist()
        texts = {place: {"text": documents[place]} if return_documents else {} for place in order}
        return [{"corpus_id": place, "score": float(scores[place]), **texts[place]} for place in order]

    # Save

    type_names = storage.TYPE_NAMES
    readable_since = storage.READABLE_SINCE

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"similarity_fn_name": self.similarity_fn_name}

    _create_model_card = write_model_card
