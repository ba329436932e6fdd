"""The modules of a CrossEncoder: Transformer, LogitScore; with the dense ones that may follow."""

from likewise.cross_encoder.modules.logit_score import LogitScore
from likewise.cross_encoder.modules.transformer import Transformer
from likewise.modules import Dense, Pooling, Router
from likewise.modules.base import InputModule, Module

__all__ = ["Dense", "InputModule", "LogitScore", "Module", "Pooling", "Router", "Transformer"]
