"""SentenceTransformer: a sequence of modules that turns texts into embeddings."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from likewise.card import write_model_card
from likewise.checked import positive
from likewise.model import encoding, fingerprint, inference, storage
from likewise.model.kept import OutputFile
from likewise.model.model import Model
from likewise.model.pool import WorkerPool
from likewise.modules import Pooling
from likewise.modules.device import best_device as best_device
from likewise.modules.find_folder import HUB_ORGANISATION
from likewise.modules.router import output_dimension
from likewise.modules.text import Text
from likewise.sentence_transformer.model_card import SentenceTransformerModelCardData
from likewise.similarity import Similarity, SimilarityFunction, name_for_whole_texts

logger = logging.getLogger(__name__)


class SentenceTransformer(Model):
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

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = ("cosine", "dot", "euclidean", "manhattan")

    model_type = "SentenceTransformer"
    model_card_data_class = SentenceTransformerModelCardData
    stored_in = staticmethod(storage.load)
    default_huggingface_organization = HUB_ORGANISATION
    default_prompts: ClassVar[Mapping[str, str]] = {"query": "", "document": ""}

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
        if model_name_or_path is None and modules is None:
            raise ValueError("Pass `model_name_or_path`, or `modules` to build a model from.")
        if model_name_or_path is not None and modules is not None:
            logger.warning(
                "Both `model_name_or_path` and `modules` were given; %r is loaded and `modules` are ignored.",
                os.fspath(model_name_or_path),
            )
        if token is not None and use_auth_token is not None:
            raise ValueError("Pass `token` alone: `use_auth_token` is its older name.")
        tokenizer_kwargs = {**(tokenizer_kwargs or {}), **(processor_kwargs or {})}
        token = use_auth_token if token is None else token
        stored, folder = self._stored(
            model_name_or_path, modules, (cache_folder, revision, local_files_only, token), trust_remote_code,
            model_kwargs, tokenizer_kwargs, config_kwargs, backend,
        )  # fmt: skip
        super().__init__(stored, prompts, default_prompt_name, trust_remote_code, model_card_data)
        settings = stored.settings
        self.similarity_fn_name = similarity_fn_name or settings.get("similarity_fn_name")
        self.truncate_dim: int | None = settings.get("truncate_dim") if truncate_dim is None else truncate_dim
        self._check_truncate_dim(self.truncate_dim)
        self._unify_dtype()
        self._settle(folder, revision, device, model_kwargs)

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
        """Embed texts, or images where the model takes them. The model is in eval mode from then on.

        Several threads may call this at once: while no core is free, those that come share a batch.

        Args:
            inputs: A text, or a list of texts (or of pairs of texts). For a model of images and texts also PIL images, and
                paths and URLs of images. `sentences` is the older name.
            prompt_name: The prompt to use, a key of `prompts`.
            prompt: The prompt itself; it wins over `prompt_name`.
            batch_size: How much goes through the model at once. The work is cut by tokens, not by texts: a batch holds
                about `batch_size` texts of 32 tokens on the CPU and of 512 tokens elsewhere. Lower it if memory is short.
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
            out: A .npy file to write embeddings to, a few thousand texts at a time; returns it mapped into memory, as an array or
                a tensor. A call that was stopped, made again, goes on where it was.
            sentences: See `inputs`.
            **kwargs: Passed on to the modules that declare them; `task` is accepted and used by routers, `processing_kwargs`
                (of a Transformer's tokenizer, e.g. `{"text": {"max_length": 128}}`) by what reads the texts.

        Returns:
            (N, D) for a list of texts, (D,) for one; see the arguments for other forms.

        Raises:
            TypeError: Something is not a text.
            ValueError: An argument is out of its range or unknown.
        """
        texts, single = encoding.inputs_of(self, sentences if inputs is None else inputs, kwargs)
        precision = precision or "float32"
        encoding.check_arguments(precision, output_value, out is not None)
        self._check_known(kwargs)
        self._check_truncate_dim(truncate_dim)
        request = encoding.request_for(
            self, prompt, prompt_name, batch_size, device, pool, kwargs,
            to_cpu=(not convert_to_tensor and convert_to_numpy) or out is not None,
            truncate_dim=self.truncate_dim if truncate_dim is None else truncate_dim,
            normalize=normalize_embeddings,
        )  # fmt: skip
        run = inference.RUNS[output_value]
        options = {
            "prompt": request.prompt or "", "batch_size": batch_size, "output_value": output_value,
            "convert_to_tensor": True, "normalize_embeddings": normalize_embeddings, "truncate_dim": request.truncate_dim,
            **kwargs,
        }  # fmt: skip
        bar = encoding.progress_of(len(texts), show_progress_bar, logger)
        with encoding.running(self, pool, device, bar) as (progress, pool):

            def embed(part: Sequence[Any]) -> Any:
                if pool is None:
                    return run(self, part, request, progress)
                parts = pool.map(part, options, chunk_size, progress)
                if output_value == "sentence_embedding":
                    return torch.cat(parts) if parts else torch.empty(0)
                return [found for of_shard in parts for found in of_shard]

            if out is not None:
                made_of = fingerprint.embedding_parts(self) | request.settings | {"precision": precision}
                output = OutputFile(out, texts, made_of)
                progress(output.done)
                convert = partial(encoding.converted, precision=precision, to_numpy=True, to_tensor=False)
                return output.fill(lambda part: convert(embed(part)), (0, 0), convert_to_tensor)
            found = embed(texts)
        if output_value == "sentence_embedding":
            if not len(texts) and precision != "float32":  # no text says how long a row is
                sizes = self.get_embedding_dimension() or 0, request.truncate_dim
                found = torch.empty(0, min(size for size in sizes if size is not None), device=found.device)
            found = encoding.converted(found, precision, convert_to_numpy, convert_to_tensor)
        return found[0] if single else found

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
        return encoding.encode_for(
            SentenceTransformer.encode, self, "query", inputs, prompt_name, prompt, *args, **kwargs
        )

    def encode_document(
        self,
        inputs: str | Sequence[Text] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """`encode`, and its arguments, with the first of the prompts document, passage, corpus unless another is asked for."""
        return encoding.encode_for(
            SentenceTransformer.encode, self, "document", inputs, prompt_name, prompt, *args, **kwargs
        )

    way_of_embedding = encoding.way_of_embedding

    def _check_truncate_dim(self, dimension: int | None) -> None:
        size = None if dimension is None else output_dimension(list(self))
        if dimension is not None and positive(dimension, "truncate_dim") > (size or dimension):
            _say_whole(dimension, size)

    # Similarity

    @property
    def similarity_fn_name(self) -> Literal["cosine", "dot", "euclidean", "manhattan"]:
        """How embeddings are compared."""
        return cast(Literal["cosine", "dot", "euclidean", "manhattan"], self._similarity_fn_name or "cosine")

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        self._similarity_fn_name = None if value is None else name_for_whole_texts(value)

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
        from likewise.sentence_transformer.trainer import SentenceTransformerTrainer

        fit(SentenceTransformerTrainer, self, train_objectives, *args, **kwargs)

    old_fit = fit

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[list[dict[str, Tensor]], Tensor]:
        """Examples -> one dict of padded features for each text column, and the labels."""
        from likewise.legacy.fit import smart_batching_collate

        return smart_batching_collate(self, batch)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings() | {"similarity_fn_name": self.similarity_fn_name}
        return settings | ({} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim})

    _create_model_card = write_model_card


@lru_cache  # once
def _say_whole(dimension: int, size: int | None) -> None:
    logger.warning("`truncate_dim` is %d, but embeddings have %d entries: they stay whole.", dimension, size)
