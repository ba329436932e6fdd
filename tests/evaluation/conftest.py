"""A small random model in a folder, which both libraries load, and random texts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = [
    "apple",
    "bridge",
    "cloud",
    "dog",
    "engine",
    "forest",
    "garden",
    "house",
    "island",
    "jungle",
    "kettle",
    "lamp",
    "mountain",
    "needle",
    "ocean",
    "pencil",
    "queen",
    "river",
    "stone",
    "tree",
    "umbrella",
    "valley",
    "window",
    "zebra",
]


def random_texts(num_texts: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 6 words; among many, some repeat."""
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(1, 6))) for _ in range(num_texts)]


def save_model(folder: Path, seed: int, size: int = 32) -> Path:
    """Save a transformers model with two random layers over words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*names, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = dict(
        zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], names, strict=True)
    )
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=size,
        intermediate_size=2 * size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    BertModel(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), seed=0)


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture(scope="session")
def reference_model(model_folder: Path) -> Any:
    """The reference's own model: its evaluators and ours run on it alike."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(model_folder), device="cpu")


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Any:
    from likewise import SentenceTransformer

    return SentenceTransformer(str(model_folder), device="cpu")


@pytest.fixture(scope="session")
def other_model(other_folder: Path) -> Any:
    from likewise import SentenceTransformer

    return SentenceTransformer(str(other_folder), device="cpu")
