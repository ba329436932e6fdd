"""Graphs of models with a head: what of them is exported, and how a graph meets a batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from likewise.cross_encoder.load_head import load_with_head
from likewise.engine import TokenBatch
from likewise.modules.graph_model import GraphModel
from likewise.modules.graphs import LAST_LAYER, FirstOutput, GraphPart


class LastLogits(nn.Module):
    """A language model with positional arguments, and the logits of what comes after each sequence, (N, 1, V)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.whole = FirstOutput(model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        # (N, L, V), padded on the right.
        logits: Tensor = self.whole(input_ids, attention_mask, token_type_ids)
        last = attention_mask.sum(dim=1) - 1
        return logits.gather(1, last.view(-1, 1, 1).expand(-1, 1, logits.shape[-1]))


def part_of(task: str) -> GraphPart:
    """What of a model for this task becomes a graph."""
    if task == "feature-extraction":
        return LAST_LAYER
    wrap = LastLogits if task == "text-generation" else FirstOutput
    return GraphPart(partial(load_with_head, task), wrap, "logits", by_token=False)


class GraphScorer:
    """Runs a graph that gives logits.

    Args:
        model: The graph.
        causal: Whether it is of a language model.
    """

    def __init__(self, model: GraphModel, causal: bool) -> None:
        self.model = model
        self.causal = causal

    def __call__(self, tokens: TokenBatch) -> Tensor:
        """The logits of a batch: (N, labels), or (N, 1, V) of a language model, in the caller's order.

        Raises:
            ValueError: The graph gives something else.
        """
        found = torch.from_numpy(self.model.run(self.model.features(tokens))).to(tokens.device)
        size = len(tokens), self.model.config.num_labels
        if self.causal and found.ndim == 3:
            if found.shape[1] == 1:
                return found
            last = tokens.padded_mask().sum(dim=1) - 1  # exported by others: of every token
            return found[torch.arange(len(last), device=last.device), last].unsqueeze(1)
        if self.causal or tuple(found.shape) != size:
            expected = "a language model's logits (N, L, V)" if self.causal else f"logits {size}"
            raise ValueError(
                f"The graph {self.model.path} gives {tuple(found.shape)} for {len(tokens)} pairs, but expected were {expected}. Export "
                'it again: `model_kwargs={"export": True}`.'
            )
        return found
