"""LSTM: a recurrent network over the tokens of each text."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from likewise.checked import positive
from likewise.modules.base import Features, Module, put_token_embeddings, size_in, to_packed


class LSTM(Module):
    """A long short-term memory over token embeddings.

    Args:
        word_embedding_dimension: Size of the embeddings that come in.
        hidden_dim: Size of what comes out, for each direction.
        num_layers: Layers on top of each other.
        dropout: Probability of dropping an entry between layers, in training.
        bidirectional: Whether a second network runs backwards; its output stands behind the first's.
        embedding_dimension: The newer name of `word_embedding_dimension`.

    Raises:
        ValueError: A size is missing or less than 1.
    """

    config_file_name = "lstm_config.json"
    config_keys = ("word_embedding_dimension", "hidden_dim", "num_layers", "dropout", "bidirectional")

    def __init__(
        self,
        word_embedding_dimension: int | None = None,
        hidden_dim: int = 0,
        num_layers: int = 1,
        dropout: float = 0,
        bidirectional: bool = True,
        *,
        embedding_dimension: int | None = None,
    ) -> None:
        super().__init__()
        size = embedding_dimension if word_embedding_dimension is None else word_embedding_dimension
        self.word_embedding_dimension = positive(size, "word_embedding_dimension")
        self.hidden_dim = positive(hidden_dim, "hidden_dim")
        self.num_layers = positive(num_layers, "num_layers")
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.embeddings_dimension = hidden_dim * (2 if bidirectional else 1)
        sizes = (self.word_embedding_dimension, hidden_dim, num_layers)
        self.encoder = nn.LSTM(*sizes, dropout=dropout, bidirectional=bidirectional, batch_first=True)

    get_word_embedding_dimension = get_embedding_dimension = size_in("embeddings_dimension")

    def forward(self, features: Features, **kwargs: Any) -> Features:
        """Replace `token_embeddings`."""
        tokens, values = to_packed(features)
        if tokens.num_tokens:
            lengths = tokens.restore(tokens.lengths).clamp(min=1)
            rows = pack_padded_sequence(tokens.pad(values), lengths, batch_first=True, enforce_sorted=False)
            padded, _ = pad_packed_sequence(self.encoder(rows)[0], batch_first=True)
            values = tokens.unpad(padded, tokens.padded_mask())
        else:
            values = values.new_zeros(0, self.embeddings_dimension)
        return put_token_embeddings(features, tokens, values)
