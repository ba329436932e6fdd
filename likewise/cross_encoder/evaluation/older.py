"""The names that evaluators of CrossEncoders had in release 3 of the reference; they measure as the newer ones do."""

from __future__ import annotations

from likewise.cross_encoder.evaluation.classification import CrossEncoderClassificationEvaluator
from likewise.cross_encoder.evaluation.correlation import CrossEncoderCorrelationEvaluator
from likewise.cross_encoder.evaluation.reranking import CrossEncoderRerankingEvaluator

CEBinaryAccuracyEvaluator = CrossEncoderClassificationEvaluator
CEBinaryClassificationEvaluator = CrossEncoderClassificationEvaluator
CEF1Evaluator = CrossEncoderClassificationEvaluator
CESoftmaxAccuracyEvaluator = CrossEncoderClassificationEvaluator
CECorrelationEvaluator = CrossEncoderCorrelationEvaluator
CERerankingEvaluator = CrossEncoderRerankingEvaluator
