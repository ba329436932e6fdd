"""Does late interaction with a whole corpus find the documents that are relevant for a query?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from likewise.evaluation.embedding import Task
from likewise.evaluation.information_retrieval import InformationRetrievalEvaluator
from likewise.multi_vector_encoder.evaluation.base import embed, refuse_truncate_dim
from likewise.multi_vector_encoder.model import SIMILARITIES
from likewise.multi_vector_encoder.scoring.token_scores import XTRScores, xtr_scores
from likewise.retrieval.best_documents import BestDocuments
from likewise.retrieval.ranking_keys import Ranking


@dataclass(eq=False, repr=False)
class MultiVectorInformationRetrievalEvaluator(InformationRetrievalEvaluator):
    """InformationRetrievalEvaluator by the tokens of queries and documents; its arguments, and one more.

    Every document is scored with every query, `corpus_chunk_size` documents at a time.

    Args:
        chunk_elements: About how many products of tokens to hold at a time; None for the usual number.

    Raises:
        ValueError: `truncate_dim` is given, or a score that depends on what is scored together.
    """

    model_type = "MultiVectorEncoder"
    known_functions = SIMILARITIES
    corpus_chunk_size: int = 5000
    chunk_elements: int | None = None

    def __post_init__(self) -> None:
        refuse_truncate_dim(self.truncate_dim)
        if self.score_functions is not None and self.chunk_elements is not None:
            raise ValueError(
                "`chunk_elements` is for the model's own score. Bind it to yours: `partial(maxsim, chunk_elements=...)`."
            )
        for name, function in (self.score_functions or {}).items():
            inner = function.func if isinstance(function, partial) else function
            if inner is xtr_scores or isinstance(inner, XTRScores):
                raise ValueError(
                    f"The score function {name!r} is XTR's, which ranks the tokens that are scored together: documents are scored in "
                    "parts. Use MaxSim."
                )
        super().__post_init__()

    def embed_inputs(  # type: ignore[override]
        self,
        model: Any,
        sentences: Sequence[str],
        encode_fn_name: Task | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **kwargs: Any,
    ) -> list[Tensor]:
        """The embeddings that are measured, (tokens, D) for each text: override it to prepare or embed otherwise."""
        return embed(self, model, sentences, encode_fn_name, prompt_name=prompt_name, prompt=prompt, **kwargs)

    def _model_score_functions(self, model: Any) -> dict[str, Callable[..., Tensor]]:
        return {model.similarity_fn_name: partial(model.similarity, chunk_elements=self.chunk_elements)}

    def _search(self, model: Any, corpus_model: Any, corpus_embeddings: Any) -> dict[str, Ranking]:
        queries = self.embed_inputs(
            model, self.queries, "query", prompt_name=self.query_prompt_name, prompt=self.query_prompt
        )
        functions = self._score_functions(model)
        best = {name: BestDocuments(len(queries), self._max_k()) for name in functions}
        for start in range(0, len(self.corpus), self.corpus_chunk_size):
            part = slice(start, start + self.corpus_chunk_size)
            documents = (
                corpus_embeddings[part]
                if corpus_embeddings is not None
                else self.embed_inputs(
                    corpus_model,
                    self.corpus[part],
                    "document",
                    prompt_name=self.corpus_prompt_name,
                    prompt=self.corpus_prompt,
                )
            )
            places = self._judgements.places[part]
            for name, function in functions.items():
                best[name].add(function(queries, documents), places)
        return {name: one.result() for name, one in best.items()}
