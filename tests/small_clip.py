"""A small random CLIP in a folder, and pictures of different sizes and kinds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image


def small_clip_tokenizer() -> Any:
    """CLIP's tokenizer over single letters, with a few merges."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    merges = [("a", "t</w>"), ("c", "at</w>"), ("o", "g</w>"), ("d", "og</w>"), ("r", "e"), ("re", "d</w>")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=20)


def small_clip_folder(path: str | Path, **text_config: Any) -> str:
    """A folder with a two-layer random CLIP for pictures of 16 x 16, and its processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = small_clip_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**size, **ids, "pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    config = CLIPConfig(
        text_config={**text, "max_position_embeddings": 20, **text_config},
        vision_config={**size, "hidden_size": 24, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    size = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(path)
    return str(path)


def pictures(number: int, seed: int = 0) -> list[Image.Image]:
    """Random pictures: of several sizes, in colour, grey, with a palette, and with transparency."""
    rng = random.Random(seed)
    found = []
    for place in range(number):
        size = rng.randint(12, 40), rng.randint(12, 40)
        colour = Image.frombytes("RGB", size, rng.randbytes(3 * size[0] * size[1]))
        found.append(colour.convert(("RGB", "L", "P", "RGBA")[place % 4]))
    return found
