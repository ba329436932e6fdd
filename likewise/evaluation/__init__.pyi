# What lives where: for type checkers, and for `likewise.lazy`, which imports a name when it is first used.

from likewise.evaluation.base import BaseEvaluator as BaseEvaluator
from likewise.evaluation.base import SentenceEvaluator as SentenceEvaluator
from likewise.evaluation.binary_classification import (
    BinaryClassificationEvaluator as BinaryClassificationEvaluator,
)
from likewise.evaluation.embedding_similarity import (
    EmbeddingSimilarityEvaluator as EmbeddingSimilarityEvaluator,
)
from likewise.evaluation.information_retrieval import (
    InformationRetrievalEvaluator as InformationRetrievalEvaluator,
)
from likewise.evaluation.label_accuracy import LabelAccuracyEvaluator as LabelAccuracyEvaluator
from likewise.evaluation.mse import MSEEvaluator as MSEEvaluator
from likewise.evaluation.mse_from_dataframe import MSEEvaluatorFromDataFrame as MSEEvaluatorFromDataFrame
from likewise.evaluation.nano_beir import NanoBEIREvaluator as NanoBEIREvaluator
from likewise.evaluation.paraphrase_mining import ParaphraseMiningEvaluator as ParaphraseMiningEvaluator
from likewise.evaluation.reranking import RerankingEvaluator as RerankingEvaluator
from likewise.evaluation.sequential import SequentialEvaluator as SequentialEvaluator
from likewise.evaluation.translation import TranslationEvaluator as TranslationEvaluator
from likewise.evaluation.triplet import TripletEvaluator as TripletEvaluator
from likewise.similarity import SimilarityFunction as SimilarityFunction
