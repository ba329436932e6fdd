"""Images among the inputs of a model: PIL images, and texts that say where one is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp")
DATA_URI = "data:image/"


def is_picture(value: Any) -> bool:
    """Whether this is a PIL image."""
    pillow = sys.modules.get("PIL.Image")  # whoever holds an image has imported it
    return pillow is not None and isinstance(value, pillow.Image)


def names_image(text: str) -> bool:
    """Whether a text stands for an image: a data URI, a URL or the path of a file that ends like one."""
    is_told = text.startswith(DATA_URI) or is_address(text)
    return is_told or (text.lower().endswith(EXTENSIONS) and Path(text).is_file())


def is_address(text: str) -> bool:
    """Whether a text is the URL of an image on the network."""
    if text.startswith(("http://", "https://")) and " " not in text:
        try:
            return urlparse(text).path.lower().endswith(EXTENSIONS)
        except ValueError:
            return False
    return False


def opened(image: Any) -> Any:
    """A PIL image with its pixels read; `image` is one, or a text that says where one is."""
    try:
        if isinstance(image, str):
            from transformers.image_utils import load_image

            return load_image(image)
        image.load()
        return image
    except Exception as error:  # of the file, of the network, of Pillow's decoders
        shown = image[:100] if isinstance(image, str) else repr(image)
        raise ValueError(f"An image cannot be read ({error}): {shown}. Correct or drop it.") from error
