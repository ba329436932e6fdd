"""AdaptiveLayerLoss: a loss on the embeddings that earlier layers give too; Matryoshka2dLoss: with MatryoshkaLoss inside.

    loss = w_last * inner(last layer) + sum over chosen layers l of
           w_prior * w_l / number of chosen layers * inner(layer l) + w_kl * T * KL(softmax(last / T) || softmax(layer l / T))

Reference: Li et al. 2024, 2D Matryoshka Sentence Embeddings, https://arxiv.org/abs/2402.14776, section 3.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, softmax

from likewise.checked import positive
from likewise.engine.embed import Batch, Embed
from likewise.losses.base import LossValue
from likewise.losses.matryoshka import MatryoshkaLoss
from likewise.losses.wrapping import LossAround, weighted_sum
from likewise.modules import Transformer
from likewise.similarity import to_float_tensor
from likewise.types import Encoder

LayerWeighting: TypeAlias = Literal["uniform", "log", "linear"] | Callable[[int], float]
LAYER_WEIGHTS: dict[str, Callable[[int], float]] = {
    "uniform": lambda layer: 1.0,
    "log": lambda layer: 1.0 / (1.0 + math.log(1 + layer)),
    "linear": lambda layer: 1.0 / (1 + layer),
}


@dataclass(eq=False, repr=False)
class AdaptiveLayerLoss(LossAround):
    """Around any loss: trains a model whose later layers can be taken off, for speed, and which still serves.

    Layer 0 is the input embeddings. The texts go through the encoder once; only what follows it (pooling, ...) is done for
    every layer. Prefer a smaller model, taught by this one (MSELoss), where the number of layers is settled beforehand.

    Args:
        model: The model to train; its first module is a Transformer.
        loss: The inner loss.
        n_layers_per_step: How many earlier layers to draw at random in each step (by Python's `random`); -1 for all.
        last_layer_weight: Weight of the loss on the last layer.
        prior_layers_weight: Weight of the mean loss on the earlier ones.
        kl_div_weight: Weight of the divergence of their embeddings from the last layer's.
        kl_temperature: T, which softens the embeddings for that; 0 leaves the divergence out.
        layer_weighting: Weight of the loss on layer l: `uniform` (1), `log` (1 / (1 + log(1 + l))), `linear`
            (1 / (1 + l)), or a function of l.

    Raises:
        ValueError: The model does not begin with a Transformer, the inner loss has layers of its own, or the weighting
            is unknown.
        TypeError: The inner loss does not compute from embeddings.
    """

    cites = "li20242d"

    model: Encoder
    loss: Any
    n_layers_per_step: int = 1
    last_layer_weight: float = 1.0
    prior_layers_weight: float = 1.0
    kl_div_weight: float = 1.0
    kl_temperature: float = 0.3
    layer_weighting: LayerWeighting = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.n_layers_per_step, "n_layers_per_step", "-1 takes all.", least=-1)
        weighting, first = self.layer_weighting, self.model[0]
        if not callable(weighting) and weighting not in LAYER_WEIGHTS:
            raise ValueError(
                f"`layer_weighting` must be one of {', '.join(LAYER_WEIGHTS)}, or a function, but is {weighting!r}."
            )
        if not isinstance(first, Transformer):
            raise ValueError(
                f"{type(self).__name__} needs a model whose first module is a Transformer, but it is a "
                f"{type(first).__name__}. Take the inner loss alone."
            )
        if any(isinstance(module, AdaptiveLayerLoss) for module in self.loss.modules()):
            raise ValueError("`loss` is, or has inside, a loss over layers already. Keep one of them.")

    def read(self, batch: Batch, embed: Embed) -> Sequence[Tensor]:
        """What the inner loss reads, of all layers: one (B, layers, D) for each column, the last layer last."""
        return super().read(batch, replace(embed, layers=True))

    def compute(
        self, embeddings: Sequence[Tensor], labels: Tensor | None = None, **context: Any
    ) -> LossValue:
        """(B, layers, D) batches and the inner loss's labels -> what the inner loss returns."""
        *prior, last = zip(*(embedding.unbind(dim=1) for embedding in embeddings), strict=True)
        values = [(self.last_layer_weight, self.loss.compute(last, labels, **context))]
        chosen: Sequence[int] = range(len(prior))
        if 0 < self.n_layers_per_step < len(prior):
            chosen = random.sample(chosen, self.n_layers_per_step)
        divergences = []
        for layer in chosen:
            weight = self.prior_layers_weight * self.get_layer_weight(layer) / len(chosen)
            values.append((weight, self.loss.compute(prior[layer], labels, **context)))
            if self.kl_temperature > 0:
                divergences.append(_divergence(last, prior[layer], self.kl_temperature))
        total = weighted_sum(values)
        if not divergences:
            return total
        divergence = torch.stack(divergences).sum() * (self.kl_temperature * self.kl_div_weight)
        return total | {"kl_div": divergence} if isinstance(total, dict) else total + divergence

    def get_layer_weight(self, layer_idx: int) -> float:
        """The weight of an earlier layer's loss."""
        weighting = self.layer_weighting
        return LAYER_WEIGHTS[weighting](layer_idx) if isinstance(weighting, str) else weighting(layer_idx)

    def get_config_dict(self) -> dict[str, Any]:
        weighting = self.layer_weighting
        named = weighting if isinstance(weighting, str) else getattr(weighting, "__name__", "custom")
        return super().get_config_dict() | {"layer_weighting": named}


class Matryoshka2dLoss(AdaptiveLayerLoss):
    """AdaptiveLayerLoss around MatryoshkaLoss: fewer layers, fewer entries, or both.

    Args:
        model: As in AdaptiveLayerLoss.
        loss: The inner loss.
        matryoshka_dims: As in MatryoshkaLoss.
        matryoshka_weights: As in MatryoshkaLoss.
        n_layers_per_step: As in AdaptiveLayerLoss.
        n_dims_per_step: As in MatryoshkaLoss, but 1 by default.
        last_layer_weight: As in AdaptiveLayerLoss; so are those that follow.
        prior_layers_weight: As there.
        kl_div_weight: As there.
        kl_temperature: As there.
        layer_weighting: As there.
    """

    def __init__(
        self,
        model: Encoder,
        loss: nn.Module,
        matryoshka_dims: Sequence[int],
        matryoshka_weights: Sequence[float] | None = None,
        n_layers_per_step: int = 1,
        n_dims_per_step: int = 1,
        last_layer_weight: float = 1.0,
        prior_layers_weight: float = 1.0,
        kl_div_weight: float = 1.0,
        kl_temperature: float = 0.3,
        layer_weighting: LayerWeighting = "uniform",
    ) -> None:
        super().__init__(
            model,
            MatryoshkaLoss(model, loss, matryoshka_dims, matryoshka_weights, n_dims_per_step),
            n_layers_per_step, last_layer_weight, prior_layers_weight, kl_div_weight, kl_temperature, layer_weighting,
        )  # fmt: skip

    def get_config_dict(self) -> dict[str, Any]:
        """The arguments of both losses, for the model card."""
        return {**super().get_config_dict(), **self.loss.get_config_dict()}


def _divergence(last: Sequence[Tensor], prior: Sequence[Tensor], temperature: float) -> Tensor:
    """KL divergence of an earlier layer's embeddings from the last layer's, the mean over all rows of all columns."""
    wanted = softmax(to_float_tensor(torch.cat(list(last))).detach() / temperature, dim=-1)
    found = log_softmax(to_float_tensor(torch.cat(list(prior))) / temperature, dim=-1)
    return kl_div(found, wanted, reduction="batchmean")
