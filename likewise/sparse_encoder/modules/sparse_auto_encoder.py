"""SparseAutoEncoder: a dense embedding as a few of many latents, from which it can be rebuilt (CSR)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from likewise.modules.base import Features, Module, read_weights, write_json

FIRED = 1e-5  # a latent with more than this was used


class TiedTranspose(nn.Module):
    """The transpose of a linear layer, with its weight: x W for x W^T."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.linear = layer

    def forward(self, latents: Tensor) -> Tensor:
        """(N, hidden) -> (N, input)."""
        return linear(latents, self.linear.weight.t())


class SparseAutoEncoder(Module):
    """Keeps the `k` largest of `hidden_dim` latents of an embedding.

        z = W (x - pre_bias) + latent_bias,   h = relu(the k largest of z),   rebuilt = W^T h + pre_bias

    Args:
        input_dim: The size of the embedding.
        hidden_dim: How many latents there are.
        k: How many are kept; `encode(max_active_dims=...)` takes another number.
        k_aux: How many dead latents rebuild what the others leave; 0 for none.
        normalize: Whether each embedding is standardised first, and that undone when it is rebuilt.
        dead_threshold: A latent is dead that was chosen more often than this, running, without a value.

    Raises:
        ValueError: A size is out of its range; 4 k and k_aux must not be more than there are latents.

    Reference: Wen et al. 2025, Beyond Matryoshka, https://arxiv.org/abs/2503.01776; Gao et al. 2024, Scaling and evaluating
    sparse autoencoders, https://arxiv.org/abs/2406.04093.
    """

    saved_as = "sentence_transformers.sparse_encoder.models.SparseAutoEncoder"
    config_keys = ("input_dim", "hidden_dim", "k", "k_aux", "normalize", "dead_threshold")
    forward_kwargs = frozenset({"max_active_dims"})

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int = 512,
        k: int = 8,
        k_aux: int = 512,
        normalize: bool = False,
        dead_threshold: int = 30,
    ) -> None:
        super().__init__()
        for name, value, least, most in (
            ("input_dim", input_dim, 1, None),
            ("hidden_dim", hidden_dim, 1, None),
            ("k", k, 1, hidden_dim),
            ("k_aux", k_aux, 0, hidden_dim),
        ):
            if (
                not isinstance(value, int)
                or value < least
                or (most is not None and isinstance(most, int) and value > most)
            ):
                limit = "" if most is None else f" and at most `hidden_dim` ({most})"
                raise ValueError(f"`{name}` must be at least {least}{limit}, but is {value!r}.")
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
        self.k, self.k_aux = k, k_aux
        self.normalize, self.dead_threshold = normalize, dead_threshold
        self.pre_bias = nn.Parameter(torch.zeros(input_dim))
        self.encoder = nn.Linear(input_dim, hidden_dim, bias=False)
        self.latent_bias = nn.Parameter(torch.zeros(hidden_dim))
        self.decoder = TiedTranspose(self.encoder)
        self.stats_last_nonzero: Tensor
        self.register_buffer("stats_last_nonzero", torch.zeros(hidden_dim, dtype=torch.long))

    def get_embedding_dimension(self) -> int:
        """How many latents there are."""
        return self.hidden_dim

    get_sentence_embedding_dimension = get_embedding_dimension

    def forward(self, features: Features, max_active_dims: int | None = None, **kwargs: Any) -> Features:
        """Put the latents (N, hidden) in place of `sentence_embedding`; outside of `encode` add what CSRLoss is computed from."""
        k = self.k if max_active_dims is None else max_active_dims
        given: Tensor = features["sentence_embedding"]
        scale, shift = torch.ones_like(given[:, :1]), torch.zeros_like(given[:, :1])
        standard = given
        if self.normalize:
            shift = given.mean(dim=-1, keepdim=True)
            scale = (given - shift).std(dim=-1, keepdim=True)
            standard = (given - shift) / (scale + 1e-5)
        scores = linear(standard - self.pre_bias, self.encoder.weight, self.latent_bias)
        if torch.is_inference_mode_enabled():
            features["sentence_embedding"] = largest(scores, k)
            return features
        self._check_room(4 * k)
        kept = self._chosen(scores, k)
        dead = largest(scores * (self.stats_last_nonzero > self.dead_threshold), self.k_aux)
        more = self._chosen(scores, 4 * k)
        rebuilt, rebuilt_from_more, rebuilt_from_dead = (
            (self.decoder(latents) + self.pre_bias) * scale for latents in (kept, more, dead)
        )
        features |= {
            "sentence_embedding_backbone": given,
            "sentence_embedding_encoded": scores,
            "sentence_embedding_encoded_4k": more,
            "auxiliary_embedding": dead if self.k_aux else None,
            "decoded_embedding_k": rebuilt + shift,
            "decoded_embedding_4k": rebuilt_from_more + shift,
            "decoded_embedding_aux": rebuilt_from_dead if self.k_aux else None,
            "decoded_embedding_k_pre_bias": rebuilt + shift - self.pre_bias * scale,
            "sentence_embedding": kept,
        }
        return features

    def _check_room(self, wanted: int) -> None:
        if wanted > self.hidden_dim:
            raise ValueError(
                f"Training keeps 4 k latents too, but `k` is {wanted // 4} and `hidden_dim` is {self.hidden_dim}. Choose `k` of "
                f"at most {self.hidden_dim // 4}."
            )

    def _chosen(self, scores: Tensor, k: int) -> Tensor:
        """`largest`, noting in training which latents were used."""
        if self.training and torch.is_grad_enabled():
            values, places = scores.detach().topk(k, dim=-1)
            used = torch.zeros_like(self.stats_last_nonzero)
            used.scatter_add_(0, places.reshape(-1), (values > FIRED).long().reshape(-1))
            self.stats_last_nonzero = self.stats_last_nonzero * (used == 0) + 1
        return largest(scores, k)

    def get_config_dict(self) -> dict[str, Any]:
        """The settings that `save` writes and the constructor takes."""
        return {key: getattr(self, key) for key in self.config_keys}

    def save(
        self, output_path: str | Path, *args: Any, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Write the settings, and the weights with the tied one once, as the reference does."""
        write_json(Path(output_path) / self.config_file_name, self.get_config_dict())
        weights = {
            name: tensor.contiguous().cpu()
            for name, tensor in self.state_dict().items()
            if name != "encoder.weight"
        }
        if safe_serialization:
            from safetensors.torch import save_file

            save_file(weights, Path(output_path) / "model.safetensors")
        else:
            torch.save(weights, Path(output_path) / "pytorch_model.bin")

    @classmethod
    def from_folder(cls, folder: str | Path, **kwargs: Any) -> SparseAutoEncoder:
        """Build from a folder, in which the tied weight stands under either of its names, or both.

        Raises:
            ValueError: The weights do not fit.
        """
        module = cls(**cls.saved_settings(folder))
        weights = read_weights(folder)
        tied = weights.get("encoder.weight", weights.get("decoder.linear.weight"))
        if tied is not None:
            weights |= {"encoder.weight": tied, "decoder.linear.weight": tied}
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"The weights in {folder} do not fit SparseAutoEncoder: {error}") from error
        return module

    def __repr__(self) -> str:
        return f"SparseAutoEncoder({self.get_config_dict()})"


def largest(scores: Tensor, k: int) -> Tensor:
    """(N, H) -> (N, H): the k largest of each row (or all), where they are positive; else 0."""
    values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
    return torch.zeros_like(scores).scatter(-1, places, values).relu()
