"""Evaluators of CrossEncoders."""

from likewise.cross_encoder.evaluation.base import PairEvaluator
from likewise.cross_encoder.evaluation.classification import CrossEncoderClassificationEvaluator
from likewise.cross_encoder.evaluation.correlation import CrossEncoderCorrelationEvaluator
from likewise.cross_encoder.evaluation.nano_beir import CrossEncoderNanoBEIREvaluator
from likewise.cross_encoder.evaluation.older import (
    CEBinaryAccuracyEvaluator,
    CEBinaryClassificationEvaluator,
    CECorrelationEvaluator,
    CEF1Evaluator,
    CERerankingEvaluator,
    CESoftmaxAccuracyEvaluator,
)
from likewise.cross_encoder.evaluation.reranking import CrossEncoderRerankingEvaluator

__all__ = [
    "CEBinaryAccuracyEvaluator",
    "CEBinaryClassificationEvaluator",
    "CECorrelationEvaluator",
    "CEF1Evaluator",
    "CERerankingEvaluator",
    "CESoftmaxAccuracyEvaluator",
    "CrossEncoderClassificationEvaluator",
    "CrossEncoderCorrelationEvaluator",
    "CrossEncoderNanoBEIREvaluator",
    "CrossEncoderRerankingEvaluator",
    "PairEvaluator",
]
