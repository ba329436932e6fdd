"""The features that modules hand on: what each key means, and its shape in either form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Feature(NamedTuple):
    """A key of the features: its meaning, and its shape or type in either form; None where it does not stand in that."""

    meaning: str
    packed: str | None
    padded: str | None


FEATURES: dict[str, Feature] = {
    "tokens": Feature("the token ids of all sequences, and where each begins", "TokenBatch", None),
    "input_ids": Feature("token ids, int64; the tokenizer's pad token where the mask is 0", None, "(N, L)"),
    "attention_mask": Feature(
        "1 for tokens and 0 for padding, int64; no mask: all are tokens", None, "(N, L)"
    ),
    "token_type_ids": Feature("0 and 1 for the two texts of a pair, int64", None, "(N, L)"),
    "prompt_length": Feature("leading tokens that pooling may leave out, int64", None, "(N,), or one number"),
    "inputs_embeds": Feature("input embeddings, in place of token ids", None, "(N, L, D)"),
    "token_embeddings": Feature("what an encoder makes of each token", "(T, D)", "(N, L, D)"),
    "all_layer_embeddings": Feature(
        "`token_embeddings` of each layer", "tuple of (T, D)", "tuple of (N, L, D)"
    ),
    "cls_token_embeddings": Feature(
        "the first token's, as releases before 3.0 handed them on", None, "(N, D)"
    ),
    "scoring_mask": Feature(
        "which tokens count where texts have an embedding for each; in the padded form the `attention_mask` says it",
        "(T,)",
        None,
    ),
    "query_expansion_positions": Feature(
        "tokens added to a query, which see the others and are seen by none", None, "(N, L)"
    ),
    "token_weights_sum": Feature("the sum of the weights of a text's words", "(N,)", "(N,)"),
    "sentence_embedding": Feature("what a text becomes, in the caller's order", "(N, D)", "(N, D)"),
    "multi_vector_embedding": Feature(
        "the token embeddings that a text is compared by, in the caller's order",
        "TokenEmbeddings",
        "TokenEmbeddings",
    ),
    "pixel_values": Feature("images", None, "(images, 3, height, width)"),
    "image_text_info": Feature("0 for an image, 1 for a text", None, "(N,)"),
    "task": Feature("the route through a Router", "str or None", "str or None"),
    "modality": Feature("the kind of inputs, for a Router", "str", "str"),
}
"""`N` sequences of `T` tokens in all, the longest of `L` tokens. Packed tokens lie by length; all else in the caller's order."""


@dataclass(frozen=True)
class Padding:
    """How a tokenizer fills up the rows of a batch.

    Attributes:
        id: The pad token; 0 where it has none.
        side: Where the padding goes.
        has_types: Whether it gives `token_type_ids`, also where all are 0.
    """

    id: int = 0
    side: Literal["left", "right"] = "right"
    has_types: bool = False

    @classmethod
    def of(cls, tokenizer: Any) -> Padding:
        """That of a transformers tokenizer; of others, and without one, zeros on the right."""
        pad_id = getattr(tokenizer, "pad_token_id", None)
        return cls(
            id=0 if pad_id is None else int(pad_id),
            side="left" if getattr(tokenizer, "padding_side", "right") == "left" else "right",
            has_types="token_type_ids" in (getattr(tokenizer, "model_input_names", None) or ()),
        )
