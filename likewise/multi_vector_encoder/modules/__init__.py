"""The modules that late interaction adds to a model, under the reference's path."""

from likewise.multi_vector_encoder.modules.multi_vector_mask import MultiVectorMask
from likewise.multi_vector_encoder.modules.token_pooling import (
    BaseTokenPooling,
    HierarchicalTokenPooling,
    LambdaTokenPooling,
)

__all__ = ["BaseTokenPooling", "HierarchicalTokenPooling", "LambdaTokenPooling", "MultiVectorMask"]
