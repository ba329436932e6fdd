"""Small random rerankers of every architecture, and pairs of texts for them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from small import WORDS, small_tokenizer

ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "type_vocab_size": 1}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "roberta": ("Roberta", ROBERTA),
    "xlm-roberta": ("XLMRoberta", ROBERTA),
    "camembert": ("Camembert", ROBERTA),
    "electra": ("Electra", {"embedding_size": 16}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "albert": ("Albert", {"embedding_size": 16}),
    "mpnet": ("MPNet", {"pad_token_id": 1}),
    "modernbert": (
        "ModernBert",
        {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
    "modernbert-mean": (
        "ModernBert",
        {
            "local_attention": 6,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "classifier_pooling": "mean",
        },
    ),
    "qwen3": ("Qwen3", DECODER),
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "gemma": ("Gemma", DECODER),
    "deberta": ("DebertaV2", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
}
PADDED = ("deberta",)


def pairs_of_texts(n: int, seed: int = 0, longest: int = 20) -> list[tuple[str, str]]:
    """`n` random pairs; a few queries come again and again."""
    rng = random.Random(seed)
    queries = [" ".join(rng.choices(WORDS, k=rng.randint(1, 8))) for _ in range(max(1, n // 4))]
    return [(rng.choice(queries), " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))) for _ in range(n)]


def reranker_folder(
    path: str | Path,
    name: str = "bert",
    num_labels: int = 1,
    seed: int = 0,
    task: str = "SequenceClassification",
    dropout: bool = True,
    **settings: Any,
) -> str:
    """A folder with a two-layer random transformers model with a head, and its tokenizer.

    Args:
        path: Where; made if it does not exist.
        name: Which of ARCHITECTURES.
        num_labels: How many scores a pair gets.
        seed: Of the weights.
        task: The end of the class's name behind "For"; empty for a model without a head.
        dropout: Whether the model drops anything in training.
        **settings: For the configuration.
    """
    import transformers

    prefix, own = ARCHITECTURES[name]
    model_class = getattr(transformers, f"{prefix}For{task}" if task else f"{prefix}Model")
    pad = own.get("pad_token_id", 0)
    tokenizer = small_tokenizer(model_max_length=64)
    if pad == 1:
        tokenizer.pad_token = "[UNK]"
    elif name in ("bert", "electra", "albert", "deberta"):
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 80,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "num_labels": num_labels,
    }
    if not dropout:
        common |= {
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "classifier_dropout": 0.0,
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(model_class.config_class(**common | own | settings))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)
