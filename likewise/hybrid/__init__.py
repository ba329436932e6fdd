"""Models of several families over one transformer, which runs once for all of them, and is trained for all of them."""

from likewise.hybrid.hybrid_encoder import HybridEncoder
from likewise.hybrid.hybrid_loss import HybridLoss

__all__ = ["HybridEncoder", "HybridLoss"]
