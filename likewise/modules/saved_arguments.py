"""What a model's folder may ask for when it is loaded: a short list of settings that run no code and lead nowhere else.

A folder's files are somebody else's text. Of what they say only these become arguments, unless the user trusts the folder's
code anyway (`trust_remote_code=True`); the rest is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from likewise.modules.base import read_settings

CONFIG_FILES = (
    "sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_camembert_config.json",
    "sentence_albert_config.json", "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json",
)  # fmt: skip
LAST_LAYER = ("last_hidden_state",)
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
ALLOWED: dict[str, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in {
        "model": """add_pooling_layer attn_implementation dtype low_cpu_mem_usage output_attentions
            output_hidden_states torch_dtype use_safetensors""",
        "tokenizer": """add_bos_token add_eos_token add_prefix_space additional_special_tokens bos_token
            clean_up_tokenization_spaces cls_token do_lower_case eos_token extra_special_tokens
            fix_mistral_regex from_slow legacy mask_token model_max_length pad_token padding_side sep_token
            split_special_tokens strip_accents tokenize_chinese_chars truncation_side unk_token use_fast""",
        "config": """attention_dropout attention_probs_dropout_prob attn_implementation dtype hidden_dropout_prob
            is_causal is_decoder max_position_embeddings num_labels output_attentions output_hidden_states
            pad_token_id torch_dtype use_bidirectional_attention use_cache""",
    }.items()
}
"""By what they are for, the keyword arguments of `from_pretrained` that a folder may give."""
PASSED_OVER = ("trust_remote_code", "code_revision", "revision")
"""Of the Hub, where the folder came from: only the user says whether and which code runs."""
NEVER = (*PASSED_OVER, "weights_only")
ATTENTION_KEYS = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal")


def saved_arguments(
    saved: Mapping[str, Any], kind: str, source: str, trusted: bool = False
) -> dict[str, Any]:
    """The keyword arguments that a folder's settings give for a model, a tokenizer or a configuration.

    Args:
        saved: The settings of a Transformer.
        kind: "model", "tokenizer" or "config".
        source: Where they stand, for messages.
        trusted: Whether the folder's code may run; then any argument passes but those that decide over code. Else those that may
            not come from a folder are refused.
    """
    names = [f"{kind}_args", f"{kind}_kwargs", *(["processor_kwargs"] if kind == "tokenizer" else [])]
    given: dict[str, Any] = {}
    for name in names:
        part = saved.get(name) or {}
        if not isinstance(part, Mapping):
            raise ValueError(f"`{name}` in {source} should be an object, but is {part!r}. Correct it there.")
        given |= part
    if trusted:
        return {key: value for key, value in given.items() if key not in NEVER}
    given = {key: value for key, value in given.items() if key not in PASSED_OVER}
    for key, value in given.items():
        is_plain = isinstance(value, str | int | float | bool | None) or (
            isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        )
        is_known = key != "attn_implementation" or value in ATTENTION
        if key not in ALLOWED[kind] or not is_plain or not is_known:
            raise ValueError(
                f"{source} asks to load its {kind} with `{key}={value!r}`, which a folder may not decide. If you know what "
                f"it does, take it out there and pass it yourself (`{kind}_kwargs={{{key!r}: ...}}`), or pass "
                "`trust_remote_code=True`."
            )
    return given


def check_config(config: Any, source: str, given: Mapping[str, Any], trusted: bool = False) -> None:
    """Refuse a configuration that names attention by a repository, whose code would run, or weights outside of the folder.

    Args:
        config: A transformers configuration as it was read.
        source: Where it was read from.
        given: What the user asked for, which may be anything.
        trusted: Whether code that comes with the model may run.
    """
    weights = getattr(config, "transformers_weights", None)
    # By Windows' rules, of which `/` and `\\` lead elsewhere.
    if weights is not None and PureWindowsPath(str(weights)).name != weights:
        raise ValueError(
            f"The configuration of {source} names the weights {weights!r}, outside of its folder. Such a path is not followed: "
            "correct `transformers_weights` in config.json."
        )
    asked = [given[key] for key in ATTENTION_KEYS if key in given]
    wanted = {name for part in asked for name in (part.values() if isinstance(part, Mapping) else [part])}
    for name in () if trusted else _attentions(config):
        if not name.isidentifier() and name not in wanted:
            raise ValueError(
                f"The configuration of {source} asks for the attention {name!r}, which is code from elsewhere. If you trust "
                f"it, pass `model_kwargs={{'attn_implementation': {name!r}}}`, else take it out of config.json."
            )


def _attentions(config: Any) -> Iterator[str]:
    """The attention that a configuration and those within it ask for."""
    named = getattr(config, "_attn_implementation", None)
    for value in named.values() if isinstance(named, Mapping) else [named]:
        if value is not None:
            yield str(value)
    for part in getattr(config, "sub_configs", {}):
        inner = getattr(config, part, None)
        if inner is not None:
            yield from _attentions(inner)


def output_of(modality_config: Mapping[str, Any] | None) -> tuple[str | int, ...]:
    """What a `modality_config` takes of the model's output for texts, as keys one within the other."""
    if modality_config is None:
        return LAST_LAYER
    of_texts = modality_config.get("text")
    given = of_texts if isinstance(of_texts, Mapping) else {}
    name = given.get("method_output_name")
    path = tuple(name) if isinstance(name, list | tuple) else (name,)
    is_path = isinstance(next(iter(path), None), str) and all(isinstance(key, str | int) for key in path)
    if not is_path or given.get("method", "forward") != "forward":
        raise ValueError(
            f"`modality_config` says {of_texts!r} for texts; expected the method 'forward' and the name of one of its outputs, "
            "e.g. {'method': 'forward', 'method_output_name': 'last_hidden_state'}."
        )
    return path


def read_config(folder: str | Path, trusted: bool) -> tuple[dict[str, Any], str, dict[str, dict[str, Any]]]:
    """The settings of a Transformer, their file (the first of the seven names that exists), and the arguments they ask for."""
    there = [name for name in CONFIG_FILES if (Path(folder) / name).exists()]
    source = str(Path(folder) / (there or CONFIG_FILES)[0])
    saved = read_settings(folder, there[0]) if there else {}
    kinds = ("model", "tokenizer", "config")
    return saved, source, {kind: saved_arguments(saved, kind, source, trusted) for kind in kinds}


def refuse_others(saved: Mapping[str, Any], folder: str | Path, source: str, task: str) -> None:
    """Refuse settings of a Transformer that takes something else than texts, or has another head."""
    kinds = saved.get("modality_config") or {"text": {}}
    if "text" not in kinds or "message" in kinds:
        raise ValueError(
            f"The model in {folder} was saved to take inputs of the kinds {', '.join(kinds)}. Only texts are taken here "
            "(and images by a CLIP): neither messages in a chat template, nor audio or video."
        )
    if saved.get("transformer_task") not in (None, task):
        raise ValueError(
            f"{source} has `transformer_task={saved['transformer_task']!r}`, which belongs to a model of another family, not "
            "to an embedding model of texts."
        )
