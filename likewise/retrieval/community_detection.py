"""Find groups of embeddings that are all close to one of them."""

from __future__ import annotations

import torch

from likewise.checked import number, positive
from likewise.retrieval.finite import finite_rows
from likewise.similarity import Embeddings


def community_detection(
    embeddings: Embeddings,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Groups of embeddings whose cosine with the group's centre is at least a threshold.

    The largest possible group is taken first; what it contains is no longer available to the others. Memory grows with
    `batch_size` x N, not with N x N.

    Args:
        embeddings: (N, D).
        threshold: The smallest cosine with the centre.
        min_community_size: Smaller groups are left out.
        batch_size: So many embeddings are compared with all others at a time.
        show_progress_bar: Whether to show progress.

    Returns:
        The groups as lists of rows, largest group first. A group begins with its centre, then by descending cosine.

    Examples:
        >>> community_detection([[0.0, 1.0], [1.0, 0.0], [0.1, 1.0], [1.0, 0.1]], min_community_size=2)
        [[0, 2], [1, 3]]
    """
    from tqdm.auto import tqdm

    number(threshold, "threshold", "It is a cosine, such as 0.75.")
    positive(min_community_size, "min_community_size", least=0)
    if not len(embeddings):
        return []
    units = torch.nn.functional.normalize(finite_rows(embeddings), dim=-1)
    parts = units.split(positive(batch_size, "batch_size"))
    parts = tqdm(parts, desc="Counting", disable=not show_progress_bar)
    sizes = torch.cat([(part @ units.T >= threshold).sum(dim=1) for part in parts])
    by_size = sizes.argsort(descending=True, stable=True)
    centres = by_size[sizes[by_size] >= min_community_size]
    is_free = torch.ones(len(units), dtype=torch.bool, device=units.device)
    groups: list[list[int]] = []
    while len(centres):
        part, centres = centres[:batch_size], centres[batch_size:]
        for centre, scores in zip(part.tolist(), units[part] @ units.T, strict=True):
            if not is_free[centre]:
                continue
            members = ((scores >= threshold) & is_free).nonzero().squeeze(1)
            if len(members) >= min_community_size:
                members = members[scores[members].argsort(descending=True, stable=True)]
                groups.append([centre, *members[members != centre].tolist()])
                is_free[groups[-1]] = False
        centres = centres[is_free[centres]]
    return sorted(groups, key=len, reverse=True)
