"""The names that evaluators of CrossEncoders had in release 3 of the reference; they measure as the newer ones do."""

from __future__ import annotations

from likewise.cross_encoder.evaluation.classification import CrossEncoderClassificationEvaluator
from likewise.cross_encoder.evaluation.correlation import CrossEncoderCorrelationEvaluator
from likewise.cross_encoder.evaluation.reranking import CrossEncoderRerankingEvaluator

CEBinaryAccuracyEvaluator = CrossEncoderClassificationEvaluator
"""The older name of CrossEncoderClassificationEvaluator."""
CEBinaryClassificationEvaluator = CrossEncoderClassificationEvaluator
"""The older name of CrossEncoderClassificationEvaluator."""
CEF1Evaluator = CrossEncoderClassificationEvaluator
"""The older name of CrossEncoderClassificationEvaluator."""
CESoftmaxAccuracyEvaluator = CrossEncoderClassificationEvaluator
"""The older name of CrossEncoderClassificationEvaluator."""
CECorrelationEvaluator = CrossEncoderCorrelationEvaluator
"""The older name of CrossEncoderCorrelationEvaluator."""
CERerankingEvaluator = CrossEncoderRerankingEvaluator
"""The older name of CrossEncoderRerankingEvaluator."""
