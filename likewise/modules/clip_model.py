"""CLIPModel: images and texts to embeddings of one space, by a CLIP of transformers and its processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from likewise.checked import needed
from likewise.engine.features import Padding
from likewise.modules.base import Features
from likewise.modules.images import is_address, is_picture, names_image, opened
from likewise.modules.pretrained import PretrainedModule, load_config, load_model, load_tokenizer, save_whole
from likewise.modules.text import Tokenization

IMAGE, TEXT = 0, 1
"""The two kinds of inputs, as `image_text_info` in the features has them."""


class CLIPModel(PretrainedModule):
    """A CLIP as the only module of a model that takes images and texts, also in one list.

    Images are PIL images, or texts that are the path of an image file or a data URI. A URL is fetched where that was allowed,
    by `fetch_urls` or by saying that it is an image: `{"image": url}`.

    Args:
        model_name: A folder, or a name on the Hub.
        processor_name: Where the processor (image processor and tokenizer) is, if not with the model.
        model_name_or_path: The reference's later name of `model_name`.
        model_kwargs: For `AutoModel.from_pretrained`.
        processor_kwargs: For the image processor's and the tokenizer's `from_pretrained`.
        config_kwargs: For `AutoConfig.from_pretrained`.
        fetch_urls: Whether a text that is an image's URL is taken for that image and fetched. Texts of others could have any
            address fetched; so it is for inputs that you know. Also an attribute: `model[0].fetch_urls = True`.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: It is not a CLIP, or the folder is damaged.

    Reference: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
    """

    save_in_root = False
    modalities = ("text", "image")
    """The kinds of inputs."""

    def __init__(
        self,
        model_name: str = "openai/clip-vit-base-patch32",
        processor_name: str | None = None,
        *,
        model_name_or_path: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        fetch_urls: bool = False,
    ) -> None:
        super().__init__()
        self.fetch_urls = fetch_urls
        needed("PIL.Image", "Images need Pillow", "image")
        name = model_name_or_path or model_name
        for_model, for_config = dict(model_kwargs or {}), dict(config_kwargs or {})
        # transformers would ask on the terminal
        for_processor = {"trust_remote_code": False, **(processor_kwargs or {})}
        config = load_config(name, for_config, for_model.get("trust_remote_code", False))
        if config.model_type != "clip":
            raise ValueError(
                f"CLIPModel takes a model of type 'clip', but {name} is of type {config.model_type!r}. "
                "Take `models.Transformer` for a model of texts."
            )
        self.auto_model = load_model(name, config, for_model)
        self.image_processor = load_image_processor(processor_name or name, for_processor)
        tokenizer = load_tokenizer(processor_name or name, for_processor)
        self.tokenization = Tokenization(tokenizer)
        self.max_seq_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)

    @property
    def processor(self) -> Any:
        """The transformers processor: image processor and tokenizer in one."""
        from transformers import CLIPProcessor

        return CLIPProcessor(self.image_processor, self.tokenizer)

    def get_sentence_embedding_dimension(self) -> int:
        """D, the size of an embedding."""
        return int(self.config.projection_dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def tokenize(self, texts: Sequence[Any], prompt: str | None = None) -> dict[str, Tensor]:
        """Features of images and texts, in any mixture.

        Args:
            texts: PIL images, texts, or either as `{"image": ...}` or `{"text": ...}`.
            prompt: Put in front of each text.

        Returns:
            `image_text_info` (N,), 0 for an image and 1 for a text; `pixel_values` (images, 3, height, width) if there are
            images; `input_ids` and `attention_mask` (texts, L) if there are texts.

        Raises:
            TypeError: Something is neither an image nor a text.
            ValueError: An image cannot be read.
        """
        told = [_told(value) for value in texts]
        inputs = [value for value, _ in told]
        kinds = [self._kind(*input_) for input_ in told]
        images = [opened(value) for value, kind in zip(inputs, kinds, strict=True) if kind == IMAGE]
        strings = [value for value, kind in zip(inputs, kinds, strict=True) if kind == TEXT]
        features = {"image_text_info": torch.tensor(kinds)}
        if images:
            features["pixel_values"] = self.image_processor(images, return_tensors="pt")["pixel_values"]
        if strings:
            tokens = self.tokenization(strings, prompt).pack()
            features |= tokens.to_features(Padding.of(self.tokenizer))
        return features

    def _kind(self, value: Any, told: int | None) -> int:
        """Whether an input is an image or a text; the address of an image that nobody allowed to fetch is refused."""
        if told is not None and not is_picture(value):
            return told
        if not (isinstance(value, str) and names_image(value)):
            return IMAGE if is_picture(value) else TEXT
        if is_address(value) and not self.fetch_urls:
            raise ValueError(
                f"An input is the address of an image, {value[:100]!r}, and addresses are not fetched unless you say so: set "
                "`model[0].fetch_urls = True`, or pass `{'image': address}`; for a text, `{'text': address}`."
            )
        return IMAGE

    def rows(self, features: Features, start: int, stop: int) -> Features:
        """The features of some of the inputs: `tokenize` of these alone, but for padding."""
        kinds = features["image_text_info"]
        cut = {"image_text_info": kinds[start:stop]}
        for kind, names in ((IMAGE, ("pixel_values",)), (TEXT, ("input_ids", "attention_mask"))):
            before, after = (int((kinds[:place] == kind).sum()) for place in (start, stop))
            if after > before:
                cut |= {name: features[name][before:after] for name in names}
        return cut

    def row_tokens(self, features: Features) -> int:
        """The tokens of an input, the longest kind counting: those of the padded texts, or an image's patches and one."""
        vision = self.config.vision_config
        image = (vision.image_size // vision.patch_size) ** 2 + 1 if "pixel_values" in features else 0
        return max(image, int(features["input_ids"].shape[1]) if "input_ids" in features else 0)

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Add `sentence_embedding`, (N, D), in the caller's order."""
        parts = []
        if "pixel_values" in features:
            parts.append(_projected(self.auto_model.get_image_features(features["pixel_values"])))
        if "input_ids" in features:
            ids, mask = features["input_ids"], features.get("attention_mask")
            parts.append(_projected(self.auto_model.get_text_features(input_ids=ids, attention_mask=mask)))
        embeddings = torch.cat(parts)
        if len(parts) > 1:  # images first, then texts: back to their own order
            embeddings = embeddings[features["image_text_info"].argsort(stable=True).argsort()]
        features["sentence_embedding"] = embeddings
        return features

    def write_folder(self, folder: Path, safe_serialization: bool) -> None:
        """Write model, tokenizer and image processor as transformers and the reference read them."""
        save_whole(self.auto_model, self.tokenizer, self.max_seq_length, folder, safe_serialization)
        self.image_processor.save_pretrained(folder)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        backend: str = "torch",
        **kwargs: Any,
    ) -> CLIPModel:
        """Build from a folder, whichever release of the reference wrote it."""
        if backend != "torch":
            raise ValueError(f"`backend={backend!r}` is for models of texts. Drop it to load this CLIP.")
        return cls(
            str(folder),
            model_kwargs=model_kwargs, processor_kwargs=tokenizer_kwargs, config_kwargs=config_kwargs,
        )  # fmt: skip

    def __repr__(self) -> str:
        settings = {"max_seq_length": self.max_seq_length, "architecture": type(self.auto_model).__name__}
        return f"CLIPModel({settings})"


def load_image_processor(name_or_path: str, options: Mapping[str, Any]) -> Any:
    """The image processor in a folder, or of a name on the Hub."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(name_or_path, **options)
    except Exception as error:  # transformers raises what it happens to stumble over
        raise ValueError(
            f"The image processor in {name_or_path} cannot be read ({error}). Its preprocessor_config.json may be missing "
            "or damaged: copy or download the folder again."
        ) from error


def _told(value: Any) -> tuple[Any, int | None]:
    """An input, and its kind where it says so: `{"image": ...}` or `{"text": ...}`."""
    if isinstance(value, Mapping) and len(value) == 1 and set(value) <= {"image", "text"}:
        ((name, inner),) = value.items()
        return inner, IMAGE if name == "image" else TEXT
    return value, None


def _projected(output: Any) -> Tensor:
    """(N, D): what transformers calls the pooled output, or, in older releases, all there is."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found
