"""One transformer for several models: theirs are compared, and one takes the place of all."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from torch import nn

from likewise.engine.modes import CAPTURES, has_captures, without_captures
from likewise.model import fingerprint
from likewise.modules import Transformer
from likewise.modules.saved_arguments import LAST_LAYER, output_of
from likewise.sparse_encoder.modules import MLMTransformer


def share(models: Mapping[str, Any]) -> None:
    """Give models, by their names, one transformer.

    Those whose first modules are equal get the first one's. Where some have a masked language model's head, the others get the
    encoder beneath it, since the head may be tied to its word embeddings.

    Raises:
        ValueError: The transformers are not equal.
    """
    device = next(iter(models.values())).device
    leading: dict[bool, str] = {}  # by whether there is a head
    for name, model in models.items():
        first = models[leading.setdefault(has_head(model), name)]
        if model[0] is not first[0]:
            advice = f"on the first model's: {type(model).__name__}(modules=[first[0], ...])"
            _refuse_others(_parts(first[0]), _parts(model[0]), name, advice)
    if len(leading) == 2:
        plain, headed = (models[leading[which]] for which in (False, True))
        _check_encoder(plain, headed[0], leading[False])
    # Only now: where one is refused, all are as they were.
    for model in models.values():
        model[0] = models[leading[has_head(model)]][0]
        model.to(device)
    if len(leading) == 2:
        _share_encoder(plain[0], headed[0])


def has_head(model: Any) -> bool:
    """Whether a model begins with an encoder and a masked language model's head, which gives logits."""
    return isinstance(model[0], MLMTransformer)


def _check_encoder(model: Any, headed: MLMTransformer, name: str) -> None:
    """Refuse a model whose Transformer is another than the encoder beneath a head."""
    transformer = model[0]
    advice = (
        f"of the folder of the one with a head: {type(model).__name__}(modules=[Transformer(folder), ...])"
    )
    if not _gives_last_layer(transformer) or headed.backend != "torch":
        raise ValueError(
            f"`{name}` must begin with a Transformer that gives its last layer, computed by torch, to share the encoder of a "
            f"masked language model. Build it {advice}."
        )
    _refuse_others(_encoder_parts(headed), _encoder_parts(transformer), name, advice)


def _share_encoder(transformer: Transformer, headed: MLMTransformer) -> None:
    """Give a Transformer the encoder beneath a head."""
    own, shared = dict(transformer.auto_model.named_children()), _children(headed.encoded)
    if own | shared == own:
        return
    # Its pooler, if it has one, stays: folders and checkpoints hold it. The layers go by the configuration that is theirs, and
    # whoever saves one of the two writes its class there, for the other as well.
    transformer.auto_model = _with_children(transformer.auto_model, own | shared)
    transformer.auto_model.config = headed.encoded.config
    _capture_once(headed.auto_model, transformer.auto_model)


def _capture_once(whole: Any, encoder: Any) -> None:
    """Put on transformers' hooks for hidden states, once: it would for each of the two, and collect the layers' outputs twice."""
    try:
        from transformers.utils.output_capturing import maybe_install_capturing_hooks
    except ImportError:  # older releases leave none
        return
    for module in (*whole.modules(), *encoder.modules()):
        if has_captures(vars(module)):
            own = without_captures(vars(module))
            vars(module).clear()
            vars(module).update(own)
    maybe_install_capturing_hooks(whole)
    setattr(encoder, CAPTURES, True)


def _gives_last_layer(module: Any) -> bool:
    is_plain = type(module) is Transformer and module.backend == "torch"
    return is_plain and output_of(module.modality_config) == LAST_LAYER


def _parts(module: Any) -> dict[str, str]:
    """`embedding_parts` of a first module, but for a pooler that nothing reads: it is random where a folder has none."""
    if _gives_last_layer(module):
        module = _with_children(module, {"auto_model": _without_pooler(module.auto_model)})
    return fingerprint.embedding_parts(module)


def _encoder_parts(transformer: Any) -> dict[str, str]:
    """As `_parts`, of what gives the hidden states and of what reads the texts, whichever the class of the module."""
    reading = nn.Module()
    for setting in ("tokenization", "max_seq_length", "by_task"):
        setattr(reading, setting, getattr(transformer, setting))
    tokenizer = fingerprint.digest(fingerprint.tokenizers_digest(reading), transformer.processing_kwargs)
    return fingerprint.embedding_parts(_without_pooler(transformer.encoded)) | {"tokenizer": tokenizer}


def _without_pooler(encoder: Any) -> Any:
    return _with_children(encoder, _children(encoder))


def _children(encoder: Any) -> dict[str, nn.Module]:
    """What an encoder is made of, but for a pooler."""
    return {name: child for name, child in encoder.named_children() if not name.startswith("pooler")}


def _with_children(module: Any, children: Mapping[str, nn.Module]) -> Any:
    """The same module with these children alone."""
    found = copy(module)
    found.__dict__["_modules"] = dict(children)
    return found


def _refuse_others(first: Mapping[str, str], other: Mapping[str, str], name: str, advice: str) -> None:
    """Refuse a model of whose transformer some parts are others than the first one's."""
    differing = [part for part in first if first[part] != other[part]]
    if differing:
        raise ValueError(
            f"The models must begin with the same Transformer, but that of `{name}` differs in its {', '.join(differing)}. Build it "
            f"{advice}, and give both the same `max_seq_length`. Adapters, and weights in fewer bits, come afterwards."
        )
