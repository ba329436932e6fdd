"""Evaluators of late interaction."""

from likewise.multi_vector_encoder.evaluation.corpus_search import MultiVectorInformationRetrievalEvaluator
from likewise.multi_vector_encoder.evaluation.nano_beir import MultiVectorNanoBEIREvaluator
from likewise.multi_vector_encoder.evaluation.reranking import MultiVectorRerankingEvaluator
from likewise.multi_vector_encoder.evaluation.teacher_agreement import MultiVectorDistillationEvaluator
from likewise.multi_vector_encoder.evaluation.triplet import MultiVectorTripletEvaluator

__all__ = [
    "MultiVectorDistillationEvaluator",
    "MultiVectorInformationRetrievalEvaluator",
    "MultiVectorNanoBEIREvaluator",
    "MultiVectorRerankingEvaluator",
    "MultiVectorTripletEvaluator",
]
