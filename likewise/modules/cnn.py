"""CNN: convolutions of several widths over the tokens of each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from likewise.checked import positive
from likewise.engine import TokenBatch
from likewise.modules.base import Features, Module, put_token_embeddings, size_in, to_packed


class CNN(Module):
    """Convolutions over token embeddings, one for each width; their outputs stand behind each other.

    Beyond the ends of a text there are zeros, so that what a text is batched with makes no difference.

    Args:
        in_word_embedding_dimension: Size of the embeddings that come in.
        out_channels: Size of what comes out, for each width.
        kernel_sizes: The widths, in tokens; odd.
        stride_sizes: 1 for each width, so that every token keeps its place; None for that.
        in_embedding_dimension: The newer name of `in_word_embedding_dimension`.

    Raises:
        ValueError: A size is missing, a width is even, or a stride is not 1.
    """

    config_file_name = "cnn_config.json"
    config_keys = ("in_word_embedding_dimension", "out_channels", "kernel_sizes", "stride_sizes")

    def __init__(
        self,
        in_word_embedding_dimension: int | None = None,
        out_channels: int = 256,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        stride_sizes: Sequence[int] | None = None,
        *,
        in_embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        size = in_embedding_dimension if in_word_embedding_dimension is None else in_word_embedding_dimension
        size = positive(size, "in_word_embedding_dimension")
        if not kernel_sizes or any(width < 1 or width % 2 == 0 for width in kernel_sizes):
            raise ValueError(
                f"`kernel_sizes` must be odd, so that every token keeps its place, but are {list(kernel_sizes)}."
            )
        strides = [1] * len(kernel_sizes) if stride_sizes is None else list(stride_sizes)
        if strides != [1] * len(kernel_sizes):
            raise ValueError(
                f"`stride_sizes` must be 1 for each kernel, so that no token is dropped, but are {strides}."
            )
        self.in_word_embedding_dimension = size
        self.out_channels = positive(out_channels, "out_channels")
        self.kernel_sizes = list(kernel_sizes)
        self.stride_sizes = strides
        self.embeddings_dimension = out_channels * len(kernel_sizes)
        self.convs = nn.ModuleList(
            nn.Conv1d(size, out_channels, width, padding=width // 2) for width in kernel_sizes
        )

    get_word_embedding_dimension = get_embedding_dimension = size_in("embeddings_dimension")

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Replace `token_embeddings`."""
        tokens, values = to_packed(features)
        return put_token_embeddings(features, tokens, self._convolve(tokens, values))

    def _convolve(self, tokens: TokenBatch, values: Tensor) -> Tensor:
        """(T, D) -> (T, D'): all texts in one row, with zeros between them that no width reaches across."""
        gap = max(self.kernel_sizes) // 2
        places = torch.arange(tokens.num_tokens, device=values.device) + gap * tokens.sequence_of_token
        row = values.new_zeros(tokens.num_tokens + gap * len(tokens) + 1, values.shape[1])
        row = row.index_copy(0, places, values).T.unsqueeze(0)  # (1, D, T and the gaps)
        joined = torch.cat([conv(row) for conv in self.convs], dim=1)
        return joined.squeeze(0).T.index_select(0, places)
