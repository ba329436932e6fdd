"""Small real things for tests: a tokenizer over a few words, a two-layer random BERT, sentences of those words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "a",
    "an",
    "the",
    "cat",
    "dog",
    "bird",
    "fish",
    "horse",
    "child",
    "woman",
    "man",
    "teacher",
    "city",
    "river",
    "house",
    "tree",
    "stone",
    "car",
    "ship",
    "road",
    "sun",
    "rain",
    "wind",
    "snow",
    "eats",
    "sees",
    "likes",
    "finds",
    "builds",
    "breaks",
    "paints",
    "moves",
    "sleeps",
    "runs",
    "red",
    "green",
    "blue",
    "old",
    "new",
    "small",
    "large",
    "quick",
    "slow",
    "warm",
    "cold",
    "bright",
    "dark",
    "and",
    "or",
    "but",
    "in",
    "on",
    "under",
    "over",
    "near",
    "with",
    "without",
    "today",
    "tomorrow",
    "never",
    "often",
]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def sentences(n: int, seed: int = 0, longest: int = 14) -> list[str]:
    """`n` random sentences of 1 to `longest` words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(n)]


def small_tokenizer(**kwargs: Any) -> Any:
    """A BERT tokenizer that knows WORDS and single letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [
        *SPECIAL,
        *WORDS,
        *(x for x in letters if x not in WORDS),
        *(f"##{x}" for x in letters),
        ".",
        ",",
        "?",
        "!",
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(names | kwargs))


def small_model_folder(
    path: str | Path, architecture: str = "bert", seed: int = 0, head: str = "", **config: Any
) -> str:
    """A folder with a two-layer random transformers model and its tokenizer.

    Args:
        path: Where; made if it does not exist.
        architecture: transformers' name of the architecture.
        seed: Of the weights.
        head: What stands behind "AutoModel" in the name of its class; nothing for a model without a head.
        **config: Settings that replace the small ones.
    """
    import transformers

    tokenizer = small_tokenizer(model_max_length=64)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 70,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = transformers.AutoConfig.for_model(architecture, **settings | config)
        model = getattr(transformers, f"AutoModel{head}").from_config(made)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def small_model(
    path: str | Path, architecture: str = "bert", seed: int = 0, dropout: bool = True, **config: Any
) -> Any:
    """A SentenceTransformer with mean pooling over a small random model, kept in `path`."""
    from likewise import SentenceTransformer

    folder = Path(path) / f"{architecture}-{seed}"
    if not dropout:
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return SentenceTransformer(small_model_folder(folder, architecture, seed, **config), device="cpu")
