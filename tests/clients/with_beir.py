"""BEIR: exact search over a corpus, and a cross-encoder that reranks its hits."""

from beir.reranking import Rerank
from beir.reranking.models import CrossEncoder
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.models import SentenceBERT
from beir.retrieval.search.dense import DenseRetrievalExactSearch
from shared import MODEL, NAMES, RERANKER, SENTENCES, save, timed

corpus = {f"d{index}": {"title": "", "text": text} for index, text in enumerate(SENTENCES)}
queries = {f"q{index}": name for index, name in enumerate(NAMES[:50])}
judged = {f"q{index}": {f"d{index}": 1} for index in range(50)}
search = EvaluateRetrieval(
    DenseRetrievalExactSearch(SentenceBERT(MODEL, device="cpu"), batch_size=64),
    score_function="cos_sim",
    k_values=[1, 10],
)
reranker = Rerank(CrossEncoder(RERANKER, device="cpu"), batch_size=64)
with timed():
    found = search.retrieve(corpus, queries)
    again = reranker.rerank(corpus, queries, found, top_k=5)
measured = [
    value
    for results in (found, again)
    for part in EvaluateRetrieval.evaluate(judged, results, [1, 5])
    for value in part.values()
]
order = [sorted(hits, key=lambda hit, hits=hits: -hits[hit]) for hits in found.values()]
save(
    order=[hits[:10] for hits in order],
    scores=[[found[query][hit] for hit in hits[:10]] for query, hits in zip(queries, order, strict=True)],
    reranked=[[hits[hit] for hit in sorted(hits)] for hits in again.values()],
    measured=measured,
)
