"""Distil a transformer into one vector for each token of its vocabulary, without texts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.checked import one_of, positive
from likewise.engine import TokenSequences
from likewise.modules.device import best_device
from likewise.modules.find_folder import find_folder
from likewise.modules.pooling import Pooling
from likewise.modules.transformer import Transformer

BATCH_TOKENS = {"cpu": 1_000}
BATCH_TOKENS_ON_DEVICES = 32_000
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


def distil(
    cls: Any,
    /,
    model_name: str | os.PathLike[str],
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    pca_dims: int | None = 256,
    apply_zipf: bool = True,
    sif_coefficient: float | None = 1e-4,
    token_remove_pattern: str | None = r"\[unused\d+\]",
    quantize_to: str = "float32",
    use_subword: bool = True,
) -> Any:
    """Distil a transformer into one vector a token, as model2vec does; no texts and no training are needed.

    Each token goes through the model by itself; the mean of its outputs, reduced by principal components and
    weighted down if the token is frequent, is its vector.

    Args:
        model_name: A folder, or a name on the Hub. Its transformer is used, not what comes after.
        vocabulary: Words to add as tokens of their own.
        device: Where the model computes; None for the best device at hand.
        pca_dims: D, the principal components that are kept; None to keep the model's own dimensions.
        apply_zipf: Whether tokens are weighted at all: their frequency is taken to fall with their rank in the
            vocabulary (Zipf), p = 1 / (rank + 1), scaled to a sum of 1.
        sif_coefficient: a in the weight a / (a + p) (Arora et al. 2017, smooth inverse frequency); None for no
            weights.
        token_remove_pattern: Tokens that match this regular expression are dropped.
        quantize_to: float16, float32 or float64.
        use_subword: Whether the tokenizer's own tokens are kept; without them there are only those of
            `vocabulary`, and the unknown token.

    Raises:
        ValueError: An argument is out of its range.

    Reference: Tulkens and van Dongen 2024, Model2Vec, https://github.com/MinishLab/model2vec.
    """
    one_of(quantize_to, "quantize_to", DTYPES, "For smaller embeddings use `encode(precision='int8')`.")
    if not apply_zipf:
        sif_coefficient = None
    if sif_coefficient is not None and not 0 < sif_coefficient < 1:
        raise ValueError(
            f"`sif_coefficient` must lie between 0 and 1, but is {sif_coefficient}. 1e-4 is a good choice."
        )
    if not use_subword and not vocabulary:
        raise ValueError(
            "Without subwords there must be a `vocabulary`. Pass one, or drop `use_subword=False`."
        )

    transformer = Transformer.load(find_folder(model_name)).eval().to(device or best_device())
    kept = _kept_ids(transformer.tokenizer, token_remove_pattern, use_subword)
    tokenizer = _reduced(transformer.tokenizer, kept, word_level=not use_subword)
    words = _add_words(tokenizer, vocabulary or ())
    framed = TokenSequences.from_lists(_framed(transformer.tokenizer, list(kept.values())))
    sequences = TokenSequences.concatenate([framed, transformer.token_sequences(words)])
    vectors = _reduce_dimensions(_embed(transformer, sequences), pca_dims)
    if sif_coefficient is not None:
        vectors = vectors * _sif_weights(len(vectors), sif_coefficient).unsqueeze(1)
    return cls(tokenizer, vectors.to(DTYPES[quantize_to]), base_model=os.fspath(model_name))


def _kept_ids(tokenizer: Any, remove_pattern: str | None, use_subword: bool) -> dict[str, int]:
    """The tokens that stay, in the order of their ids: not those of the pattern, nor special ones but padding, unknown."""
    try:
        pattern = re.compile(remove_pattern) if remove_pattern is not None else None
    except re.error as error:
        raise ValueError(
            f"`token_remove_pattern` is {remove_pattern!r}, which is no regular expression: {error}."
        ) from error
    needed = {tokenizer.pad_token, tokenizer.unk_token}
    special = set(tokenizer.all_special_tokens)
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    kept = {
        token: number
        for token, number in by_id
        if token in needed
        or (use_subword and token not in special and not (pattern is not None and pattern.match(token)))
    }
    if not kept.keys() - needed and use_subword:
        raise ValueError(f"`token_remove_pattern` {remove_pattern!r} removes every token. Make it narrower.")
    return kept


def _reduced(tokenizer: Any, kept: dict[str, int], word_level: bool) -> Any:
    """A tokenizer of these tokens alone, numbered anew in their order, that adds no special tokens."""
    from tokenizers import Tokenizer

    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} cannot be distilled, since it is not a fast tokenizer. Take a model with tokenizer.json."
        )
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    numbers = {token: number for number, token in enumerate(kept)}
    content |= {"post_processor": None, "truncation": None, "padding": None}
    content["added_tokens"] = [
        added | {"id": numbers[added["content"]]}
        for added in content["added_tokens"]
        if added["content"] in numbers
    ]
    model = content["model"]
    if word_level:
        content["model"] = {"type": "WordLevel", "vocab": numbers, "unk_token": tokenizer.unk_token}
        content["decoder"] = None
    elif model["type"] == "Unigram":
        unknown = model.get("unk_id")
        scores, pieces = dict(model["vocab"]), [token for token, _ in model["vocab"]]
        model["vocab"] = [[token, scores.get(token, 0.0)] for token in numbers]
        model["unk_id"] = None if unknown is None else numbers.get(pieces[unknown])
    else:
        model["vocab"] = numbers
    if model["type"] == "BPE" and not word_level:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if {*pair, "".join(pair)} <= numbers.keys()]
    return Tokenizer.from_str(json.dumps(content))


def _add_words(tokenizer: Any, vocabulary: Sequence[str]) -> list[str]:
    """Add words that are no tokens yet, and return them; they match whole words only, after normalisation."""
    from tokenizers import AddedToken

    known = set(tokenizer.get_vocab())
    words = [word for word in dict.fromkeys(map(str.strip, vocabulary)) if word and word not in known]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    return words


def _framed(tokenizer: Any, ids: Sequence[int]) -> list[list[int]]:
    """Each id as a sequence with the special tokens that the model expects around a text."""
    encoding = tokenizer.backend_tokenizer.encode("a", add_special_tokens=True)
    special = [bool(flag) for flag in encoding.special_tokens_mask]
    before = special.index(False) if False in special else len(special)
    after = special[::-1].index(False) if False in special else 0
    prefix, suffix = encoding.ids[:before], encoding.ids[len(encoding.ids) - after :]
    return [[*prefix, number, *suffix] for number in ids]


@torch.no_grad()
def _embed(transformer: Transformer, sequences: TokenSequences) -> Tensor:
    """(V, D) float32 on the CPU: the mean of each sequence's token embeddings."""
    device = next(transformer.parameters()).device
    pooling = Pooling(transformer.get_word_embedding_dimension(), "mean")
    packed = sequences.pack()
    parts = [
        pooling(transformer({"tokens": chunk.to(device)}))["sentence_embedding"].float().cpu()
        for chunk in packed.chunks(BATCH_TOKENS.get(device.type, BATCH_TOKENS_ON_DEVICES))
    ]
    vectors = packed.restore(torch.cat(parts))
    return vectors.nan_to_num()


def _reduce_dimensions(vectors: Tensor, dimensions: int | None) -> Tensor:
    """(V, D) -> (V, dimensions) principal components, centred; of each the largest entry is positive."""
    if dimensions is None:
        return vectors
    if len(vectors) <= min(positive(dimensions, "pca_dims", "Pass None to keep all."), vectors.shape[1]):
        return vectors  # fewer vectors than dimensions have no covariance worth the name
    centred = vectors.double() - vectors.double().mean(dim=0)
    _, components = torch.linalg.eigh(centred.T @ centred / (len(vectors) - 1))  # ascending
    scores = centred @ components.flip(1)[:, :dimensions]
    largest = scores.gather(0, scores.abs().argmax(dim=0, keepdim=True))
    reduced: Tensor = scores * largest.sign()
    return reduced.float()


def _sif_weights(size: int, coefficient: float) -> Tensor:
    """(V,): a / (a + p), with p = 1 / (rank + 1) for ranks 1, 2, ..., scaled to a sum of 1."""
    probability = 1 / torch.arange(2, size + 2, dtype=torch.float64)
    probability = probability / probability.sum()
    return (coefficient / (coefficient + probability)).float()
