"""CrossEncoder: a model that reads two texts together and scores the pair."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from likewise.card import write_model_card
from likewise.checked import positive, whole
from likewise.cross_encoder import storage
from likewise.cross_encoder.activations import (
    Activation,
    checked_activation,
    default_activation,
    name_of_activation,
    named_activation,
    names_device,
)
from likewise.cross_encoder.calibration import Calibration, chosen, found_on
from likewise.cross_encoder.given_pairs import TextsById, as_pairs, pairs_of
from likewise.cross_encoder.heads import head_names
from likewise.cross_encoder.model_card import CrossEncoderModelCardData
from likewise.cross_encoder.modules import LogitScore, Transformer
from likewise.cross_encoder.modules.float32_linear import keep_in_float32
from likewise.cross_encoder.older_arguments import older_predict_arguments, renamed
from likewise.cross_encoder.prediction import Way, check_pairs, scores_in_file, scores_of
from likewise.model import encoding, fingerprint
from likewise.model.model import Model
from likewise.model.pool import WorkerPool
from likewise.model.storage import SETTINGS_FILE
from likewise.modules import Dense
from likewise.modules.base import Features

logger = logging.getLogger(__name__)


class CrossEncoder(Model):
    """Scores pairs of texts: how relevant a document is to a query, or which of several labels a pair has.

    Args:
        model_name_or_path: A folder, or a name on the Hub (a bare one is looked for under `cross-encoder/` first). An
            encoder without a head gets a new one.
        num_labels: How many scores a pair gets; None for what the model was saved with, or else one.
        max_length: Pairs are cut at this many tokens; None for the smaller of what tokenizer and model allow.
        activation_fn: Applied to the scores by `predict`; None for the saved one, or else Sigmoid for one label and
            nothing for several.
        device: Where it computes; None for the best device at hand.
        modules: The modules, in order, to build a model from scratch; the last sets `scores`.
        prompts: Named texts to put in front of each pair's first text.
        default_prompt_name: The prompt that `predict` uses when none is asked for; a key of the prompts.
        cache_folder: Where downloads are kept.
        trust_remote_code: Whether code that comes with the model may run.
        revision: Branch, tag or commit on the Hub.
        local_files_only: Whether only what was downloaded before may be used.
        token: Access token for the Hub.
        model_kwargs: For transformers' `from_pretrained` of the model. With `attn_implementation` the model pads.
        processor_kwargs: For `AutoTokenizer.from_pretrained`.
        config_kwargs: For `AutoConfig.from_pretrained`, e.g. `classifier_dropout`.
        model_card_data: What the model card says.
        backend: "torch", "onnx" to compute with onnxruntime, or "openvino". The two run a graph, which is exported where there is
            none yet; `model_kwargs` may name its file (`{"file_name": "model_O3.onnx"}`).
        truncation: What is cut of a pair that is too long: "longest_first" the longer text, then both; "only_second" the
            second alone, so that the query stays whole. None for the saved one, or else "longest_first".
        keep_in_fp32_modules: See `set_keep_in_fp32_modules`; None for the saved ones.
        **older: The names that older releases of the reference gave to arguments (`automodel_args`, `tokenizer_args`,
            `default_activation_function`, `classifier_dropout`, ...).

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The folder is damaged or not trusted, or an argument does not fit the model.

    Examples:
        >>> model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
        >>> scores = model.predict([("How many people live in Berlin?", "3.5 million.")])  # doctest: +SKIP
        >>> model.rank("How many people live in Berlin?", ["3.5 million.", "It rains."])  # doctest: +SKIP
    """

    model_type = "CrossEncoder"
    model_card_data_class = CrossEncoderModelCardData
    stored_in = staticmethod(storage.load)
    over_inputs = "predict"
    default_huggingface_organization = storage.ORGANISATION
    type_names = storage.TYPE_NAMES
    readable_since = storage.READABLE_SINCE["modules"]

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Activation | str | None = None,
        device: str | torch.device | None = None,
        *,
        modules: Sequence[nn.Module] | OrderedDict[str, nn.Module] | None = None,
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
        model_card_data: Any = None,
        backend: str = "torch",
        truncation: str | None = None,
        keep_in_fp32_modules: Sequence[str] | None = None,
        **older: Any,
    ) -> None:
        if older:
            self.__init__(**renamed(locals(), older))  # type: ignore[misc]
            return
        if names_device(activation_fn):  # the fourth argument of release 3.0
            device, activation_fn = cast(str, activation_fn), None
        config_kwargs = dict(config_kwargs or {})
        processor_kwargs = dict(processor_kwargs or {})
        if num_labels is not None:
            config_kwargs["num_labels"] = positive(num_labels, "num_labels")
        if max_length is not None:
            processor_kwargs["model_max_length"] = positive(max_length, "max_length")
        if model_name_or_path is None and not modules:
            raise ValueError("Pass `model_name_or_path`, or `modules` with at least one module.")
        if model_name_or_path is not None and modules is not None:
            logger.warning("`modules` are ignored, since `model_name_or_path` is given too.")
        stored, folder = self._stored(
            model_name_or_path, modules, (cache_folder, revision, local_files_only, token), trust_remote_code,
            model_kwargs, processor_kwargs, config_kwargs, backend,
        )  # fmt: skip
        super().__init__(stored, prompts, default_prompt_name, trust_remote_code, model_card_data)
        settings = stored.settings
        saved = settings.get("calibration")
        self._calibration = None if saved is None else Calibration.of_settings(saved, SETTINGS_FILE)
        if activation_fn is None:
            activation_fn = self._activation_named(settings.get("activation_fn"))
        self.activation_fn: Activation = (
            self.get_default_activation_fn() if activation_fn is None else cast(Any, activation_fn)
        )
        if isinstance(self[0], Transformer):
            self[0].tokenization.truncation = truncation or settings.get("truncation") or "longest_first"
            if max_length is not None:
                self.max_seq_length = max_length
        names = settings.get("keep_in_fp32_modules") if keep_in_fp32_modules is None else keep_in_fp32_modules
        self.keep_in_fp32_modules: list[str] = []
        self.set_keep_in_fp32_modules(names or [])
        self._settle(folder, revision, device, model_kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "activation_fn":  # no submodule: it is named in the settings, and has no weights to save
            object.__setattr__(self, name, checked_activation(value))
        else:
            super().__setattr__(name, value)

    def get_default_activation_fn(self) -> Activation:
        """The activation that config.json names, or else Sigmoid for one label and Identity for several."""
        section = getattr(self.config, "sentence_transformers", None) or {}
        older = getattr(self.config, storage.OLD_ACTIVATION, None)
        if hasattr(self.config, storage.OLD_ACTIVATION):
            delattr(self.config, storage.OLD_ACTIVATION)
        name = section.get("activation_fn")
        found = self._activation_named(older if name is None else name)
        return default_activation(self.num_labels) if found is None else found

    def _activation_named(self, name: str | None) -> Activation | None:
        return None if name is None else named_activation(name, self.trust_remote_code)

    # Settings

    def set_keep_in_fp32_modules(self, module_names: Sequence[str]) -> None:
        """Let these linear layers compute in float32, also under autocast; weights keep their type, and all others compute in theirs.

        In bfloat16, which has eight bits, many pairs get equal scores; a head in float32 tells them apart. The folder keeps the names.

        Args:
            module_names: Of `model.named_modules()`, such as `["0.model.classifier"]`; none for no layer.

        Raises:
            AttributeError: There is no such module.
            ValueError: It is no plain linear layer, or the model computes with a graph.
        """
        keep_in_float32(self, module_names)

    @property
    def num_labels(self) -> int:
        """How many scores a pair gets."""
        for module in reversed(list(self)):
            if isinstance(module, Dense) and module.module_output_name == "scores":
                return module.out_features
            if isinstance(module, LogitScore):
                return 1
            if isinstance(module, Transformer):
                return int(module.config.num_labels)
        return 1

    @property
    def model(self) -> Any:
        """The transformers model; the same as `transformers_model`."""
        return self.transformers_model

    @property
    def max_length(self) -> int | None:
        """The older name of `max_seq_length`."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        self.max_seq_length = value

    @property
    def truncation(self) -> str:
        """What is cut of a pair that is too long, "longest_first" or "only_second"."""
        return str(cast(Any, self[0]).tokenization.truncation)

    @truncation.setter
    def truncation(self, value: str) -> None:
        cast(Any, self[0]).tokenization.truncation = value

    @property
    def default_activation_function(self) -> Activation:
        """The older name of `activation_fn`."""
        return self.activation_fn

    # Forward

    def _report_truncation(self, tokenization: Any) -> None:
        if tokenization is not None and tokenization.num_truncated and not self._reported_truncation:
            self._reported_truncation = True
            logger.warning(
                "%d of the first %d pairs are longer than %d tokens and were cut there (%s). Raise `model.max_length`, set "
                "`model.truncation` or split the texts if their ends matter.",
                tokenization.num_truncated,
                tokenization.num_texts,
                tokenization.max_length,
                tokenization.truncation,
            )

    def forward(self, features: Features | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Run the modules.

        Args:
            features: Packed, `{"tokens": TokenBatch}`, or padded, as `preprocess` returns them. None for what releases of the
                reference up to 5.3 did, whose losses call `model(**tokens)`: the transformers model's own output.
            **kwargs: Passed on to the modules that declare them.

        Returns:
            The features, with `scores` (N, labels) among them, before any activation.
        """
        return self.transformers_model(**kwargs) if features is None else super().forward(features, **kwargs)

    # Predict

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether these inputs of `predict` are one pair, whose score it returns, rather than a list of pairs."""
        return as_pairs(inputs)[1]

    def predict(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        queries: TextsById | None = None,
        documents: TextsById | None = None,
        calibrated: bool = False,
        **older: Any,
    ) -> Any:
        """Score pairs of texts.

        Args:
            inputs: A pair, or many: a list, an array or anything to iterate over, such as a generator. With `queries` and
                `documents` (query id, document id) pairs. `sentences` is the older name.
            prompt_name: The prompt to use, a key of `prompts`.
            prompt: The prompt itself, put in front of each pair's first text; it wins over `prompt_name`.
            batch_size: How much goes through the model at once. The work is cut by tokens, not by pairs: a batch holds
                about `batch_size` pairs of 32 tokens on the CPU and of 512 tokens elsewhere.
            show_progress_bar: Whether to show progress; None for where logging is at INFO or below.
            activation_fn: Applied to the scores, in place of the model's own.
            apply_softmax: Whether the scores of a pair's labels are made to sum to 1.
            convert_to_numpy: Whether to return one array; otherwise a list of tensors.
            convert_to_tensor: Whether to return one tensor, on the model's device; it wins over `convert_to_numpy`.
            device: Where to compute; None for where the model is. A list of devices starts a process on each.
            pool: Processes to score in, from `start_multi_process_pool`.
            chunk_size: Pairs that a process gets at a time; None for a tenth of its share, 5,000 at most.
            out: A .npy file to write scores to, a few thousand pairs at a time; returns it mapped into memory. A call that was
                stopped, made again, goes on where it was.
            queries: Texts by id, a dict or a list, that `inputs` names, so that none is held twice.
            documents: The same, of the second texts.
            calibrated: Whether to return probabilities, as `calibrate` found them, in place of an activation's scores.
            **older: `sentences`, `activation_fct`, and `num_workers`, which has no effect.

        Returns:
            (N,) scores, or (N, labels) where there are several; for one pair its score, or its (labels,) scores.

        Raises:
            TypeError: Something is not a text.
            ValueError: A pair has more or less than two texts, an id is unknown, an argument is out of its range or unknown,
                or `out` is a file of other scores.
        """
        if older:
            inputs, activation_fn = older_predict_arguments(inputs, activation_fn, older)
        if isinstance(prompt_name, int):  # the second argument up to release 5.3
            prompt_name, batch_size = None, prompt_name
        pairs, single = pairs_of(inputs, queries, documents)
        if self.takes_tokens:  # others may take anything
            check_pairs(pairs)
        request = encoding.request_for(
            self, prompt, prompt_name, batch_size, device, pool, {},
            to_cpu=(convert_to_numpy and not convert_to_tensor) or out is not None,
        )  # fmt: skip
        activation = self.activation_fn if activation_fn is None else checked_activation(activation_fn)
        if calibrated:
            activation = chosen(self.calibration, activation_fn, bool(apply_softmax))
        bar = encoding.progress_of(len(pairs), show_progress_bar, logger, "Scoring", "pairs")
        with encoding.running(self, pool, device, bar) as (progress, pool):
            way = Way(request, batch_size, activation, bool(apply_softmax), pool, chunk_size)
            if out is not None:
                return scores_in_file(out, self, pairs, way, progress, convert_to_tensor)
            scores = scores_of(self, pairs, way, progress)
        if convert_to_tensor:
            found: Any = scores
        elif convert_to_numpy:
            found = scores.cpu().numpy() if len(pairs) else np.array([])
        else:
            found = list(scores)
        return found[0] if single else found

    def _compared(self, texts: Sequence[Any]) -> Tensor:
        """(L, N): the logits of N pairs for each label, less their mean."""
        logits: Tensor = self.predict(
            texts, activation_fn=nn.Identity(), convert_to_tensor=True, show_progress_bar=False
        )
        # But for rounding, which may differ by row.
        if torch.allclose(logits, logits[:1], rtol=1e-5, atol=1e-6):
            raise ValueError(
                "`texts` must be pairs with several scores, but all have the same. Pass some hundred."
            )
        return (logits - logits.mean(dim=0)).reshape(len(texts), -1).T

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: Activation | None = None,
        device: str | torch.device | Sequence[str | torch.device] | None = None,
        pool: WorkerPool | None = None,
        chunk_size: int | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        calibrated: bool = False,
        **older: Any,
    ) -> list[dict[str, Any]]:
        """Order documents by their relevance to a query.

        Args:
            query: The query.
            documents: The documents.
            top_k: How many of the best to return; None for all.
            return_documents: Whether to return their texts too.
            prompt_name: See `predict`.
            prompt: See `predict`.
            batch_size: See `predict`.
            show_progress_bar: See `predict`.
            activation_fn: See `predict`.
            device: See `predict`.
            pool: See `predict`.
            chunk_size: See `predict`.
            out: A .npy file for the scores in the documents' order; see `predict`.
            calibrated: See `predict`; the order stays as it is.
            **older: `activation_fct`; and `apply_softmax`, `convert_to_numpy`, `convert_to_tensor` and `num_workers`, which
                have no effect.

        Returns:
            One dict for each document, best first, with `corpus_id` (its place in `documents`), `score` and, if asked for,
            `text`. Documents with equal scores keep their order.

        Raises:
            TypeError: The query or a document is not a text, or `top_k` no whole number.
            ValueError: The model gives several scores to a pair.
        """
        if self.num_labels != 1:
            raise ValueError(
                f"`rank` orders documents by one score each, but this model gives {self.num_labels} (`num_labels`). Use "
                "`predict`, and choose a label."
            )
        without_effect = {"apply_softmax", "convert_to_numpy", "convert_to_tensor"} & set(older)
        for name in without_effect:
            older.pop(name)
        if without_effect:
            logger.warning("`rank` ignores %s.", ", ".join(f"`{name}`" for name in sorted(without_effect)))
        if older:
            _, activation_fn = older_predict_arguments((), activation_fn, older)
        if not isinstance(query, str):
            raise TypeError(f"`query` must be a text, but is {query!r} ({type(query).__name__}).")
        if isinstance(documents, str):
            raise TypeError(
                f"`documents` must be a list of texts, but is one text. Pass [{documents[:40]!r}]."
            )
        is_iterated_by_keys = isinstance(documents, Mapping) or hasattr(documents, "columns")
        if is_iterated_by_keys or not (hasattr(documents, "__iter__") or hasattr(documents, "__getitem__")):
            raise TypeError(f"`documents` must be a list of texts, but is a {type(documents).__name__}.")
        if top_k is not None and whole(top_k) is None:
            raise TypeError(f"`top_k` must be a whole number, but is {top_k!r}. None returns all.")
        documents = list(documents)
        scores = self.predict(
            [(query, document) for document in documents],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            convert_to_tensor=True,
            device=device,
            pool=pool,
            chunk_size=chunk_size,
            out=out,
            calibrated=calibrated,
        ).tolist()
        order = sorted(range(len(scores)), key=lambda place: scores[place], reverse=True)[:top_k]
        results: list[dict[str, Any]] = [{"corpus_id": place, "score": scores[place]} for place in order]
        if return_documents:
            for result in results:
                result["text"] = documents[result["corpus_id"]]
        return results

    # Calibrate

    @property
    def calibration(self) -> Calibration | None:
        """What `predict(calibrated=True)` applies to the scores; None before `calibrate`, or set to that."""
        return self._calibration

    @calibration.setter
    def calibration(self, value: Calibration | None) -> None:
        self._calibration = value

    def calibrate(
        self,
        pairs: Any,
        labels: Sequence[Any],
        method: str | None = None,
        precision: float | None = None,
        **options: Any,
    ) -> Calibration:
        """Find how scores become probabilities, for `predict(calibrated=True)`; it is saved with the model.

        Take pairs that the model was not trained on, some hundred or more, and calibrate again when it has been trained further.

        Args:
            pairs: N pairs of texts.
            labels: N labels: 0 or 1 where the model gives one score, the right class where it gives several.
            method: "platt" (a slope and an intercept) or "temperature" (a slope); None for "platt" with one score, "temperature"
                with several.
            precision: Also find the lowest probability from which on such a share of these pairs is right, above 0 and at most
                1, as `model.calibration.threshold`.
            **options: As `predict` takes them: `prompt_name`, `prompt`, `batch_size`, `show_progress_bar`, `queries`, `documents`.

        Returns:
            The calibration, with the log loss of the labels before and after.

        Raises:
            ValueError: The labels do not fit the pairs or the model, or no threshold gives that precision.
        """
        taken = {"prompt_name", "prompt", "batch_size", "show_progress_bar", "queries", "documents"}
        if set(options) - taken:
            raise TypeError(
                f"calibrate() takes no argument {', '.join(sorted(set(options) - taken))}. It takes {', '.join(sorted(taken))}."
            )
        scores = self.predict(pairs, activation_fn=nn.Identity(), **options)
        if np.size(scores) and np.ndim(scores) != (1 if self.num_labels == 1 else 2):
            raise ValueError(f"`pairs` must be a list of pairs, but is one: {pairs!r:.60}.")
        weights = fingerprint.embedding_parts(self)["weights"]
        self.calibration = found_on(scores, labels, method, precision, weights)
        return self.calibration

    # Train

    def fit(
        self,
        train_dataloader: Any,
        evaluator: Any = None,
        epochs: int = 1,
        loss_fct: Any = None,
        activation_fct: Any = None,
        scheduler: str = "WarmupLinear",
        warmup_steps: int = 10_000,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_params: Mapping[str, Any] | None = None,
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1,
        use_amp: bool = False,
        callback: Any = None,
        show_progress_bar: bool = True,
    ) -> None:
        """Train from a data loader of InputExample, as before there was a trainer; the trainer does the work.

        Args:
            train_dataloader: Gives examples of two texts with a label each.
            evaluator: Runs after each epoch, and every `evaluation_steps` steps.
            epochs: How often the data loader is gone through. Default 1.
            loss_fct: torch's loss over logits and labels; None for binary cross-entropy of one label, cross-entropy of several.
            activation_fct: Applied to the logits before the loss; None for none.
            scheduler: ConstantLR, WarmupConstant, WarmupLinear (the default), WarmupCosine or WarmupCosineWithHardRestarts.
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
        """
        from likewise.cross_encoder.fit import fit

        fit(
            self,
            train_dataloader,
            evaluator,
            loss_fct,
            activation_fct,
            epochs=epochs,
            scheduler=scheduler,
            warmup_steps=warmup_steps,
            optimizer_class=optimizer_class,
            optimizer_params=optimizer_params,
            weight_decay=weight_decay,
            evaluation_steps=evaluation_steps,
            output_path=output_path,
            save_best_model=save_best_model,
            max_grad_norm=max_grad_norm,
            use_amp=use_amp,
            callback=callback,
            show_progress_bar=show_progress_bar,
        )

    old_fit = fit

    def smart_batching_collate(self, batch: Sequence[Any]) -> tuple[Any, Tensor]:
        """Examples -> padded features of their pairs, and the labels."""
        from likewise.cross_encoder.fit import smart_batching_collate

        return smart_batching_collate(self, batch)

    def smart_batching_collate_text_only(self, batch: Sequence[Sequence[str]]) -> Any:
        """Pairs -> their padded features."""
        from likewise.cross_encoder.fit import features_of_texts

        return features_of_texts(self, batch)

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """Add a fresh adapter (a `peft.LoraConfig`, say) and use it; only adapters and the head are trained from then on.

        The head, which gives the scores, is trained and saved with the adapter, unless `modules_to_save` says otherwise: `[]`
        leaves it as it is.
        """
        if adapter_config.modules_to_save is None:
            adapter_config.modules_to_save = head_names(self.transformers_model) or None
        super().add_adapter(adapter_config, adapter_name)

    # Save

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings() | {"activation_fn": name_of_activation(self.activation_fn)}
        if isinstance(self[0], Transformer) and self.truncation != "longest_first":
            settings["truncation"] = self.truncation
        if self.keep_in_fp32_modules:
            settings["keep_in_fp32_modules"] = self.keep_in_fp32_modules
        if self.calibration is not None:
            settings["calibration"] = self.calibration.settings()
            if self.calibration.weights != fingerprint.embedding_parts(self)["weights"]:
                logger.warning(
                    "The model has changed since it was calibrated, and `predict(calibrated=True)` gives probabilities of what it "
                    "was. Calibrate it again, or set `model.calibration = None`."
                )
        return settings

    def _write(self, folder: Path, settings: Mapping[str, Any], safe_serialization: bool) -> None:
        super()._write(folder, settings, safe_serialization)
        if (folder / "config.json").exists():  # an adapter has none
            storage.write_activation(folder, settings["activation_fn"])

    _create_model_card = write_model_card
