"""Evaluators: what a model is measured with."""

from __future__ import annotations

from likewise.evaluation.base import SentenceEvaluator
from likewise.evaluation.binary_classification import BinaryClassificationEvaluator
from likewise.evaluation.embedding_similarity import EmbeddingSimilarityEvaluator
from likewise.evaluation.information_retrieval import InformationRetrievalEvaluator
from likewise.evaluation.label_accuracy import LabelAccuracyEvaluator
from likewise.evaluation.mse import MSEEvaluator
from likewise.evaluation.mse_from_dataframe import MSEEvaluatorFromDataFrame
from likewise.evaluation.nano_beir import NanoBEIREvaluator
from likewise.evaluation.paraphrase_mining import ParaphraseMiningEvaluator
from likewise.evaluation.reranking import RerankingEvaluator
from likewise.evaluation.sequential import SequentialEvaluator
from likewise.evaluation.translation import TranslationEvaluator
from likewise.evaluation.triplet import TripletEvaluator
from likewise.similarity import SimilarityFunction

BaseEvaluator = SentenceEvaluator
"""The reference's newer name of SentenceEvaluator."""

__all__ = [
    "BaseEvaluator",
    "BinaryClassificationEvaluator",
    "EmbeddingSimilarityEvaluator",
    "InformationRetrievalEvaluator",
    "LabelAccuracyEvaluator",
    "MSEEvaluator",
    "MSEEvaluatorFromDataFrame",
    "NanoBEIREvaluator",
    "ParaphraseMiningEvaluator",
    "RerankingEvaluator",
    "SentenceEvaluator",
    "SequentialEvaluator",
    "SimilarityFunction",
    "TranslationEvaluator",
    "TripletEvaluator",
]
