"""Haystack: documents are embedded, found for a query, and ranked anew."""

from haystack import Document
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.rankers.sentence_transformers import (
    SentenceTransformersSimilarityRanker,
)
from shared import MODEL, NAMES, QUERIES, RERANKER, SENTENCES, save, timed

cpu = ComponentDevice.from_str("cpu")
of_documents = SentenceTransformersDocumentEmbedder(model=MODEL, device=cpu, normalize_embeddings=True)
of_texts = SentenceTransformersTextEmbedder(
    model=MODEL, device=cpu, prefix="find: ", normalize_embeddings=True
)
ranker = SentenceTransformersSimilarityRanker(model=RERANKER, device=cpu, top_k=5)
for component in (of_documents, of_texts, ranker):
    component.warm_up()
store = InMemoryDocumentStore(embedding_similarity_function="cosine")
retriever = InMemoryEmbeddingRetriever(store, top_k=10)
with timed():
    documents = [Document(id=name, content=text) for name, text in zip(NAMES, SENTENCES, strict=True)]
    store.write_documents(of_documents.run(documents=documents)["documents"])
    found, ranked = [], []
    for query in QUERIES:
        embedding = of_texts.run(text=query)["embedding"]
        found.append(retriever.run(query_embedding=embedding)["documents"])
        ranked.append(ranker.run(query=query, documents=found[-1])["documents"])
save(
    names=[[hit.id for hit in hits] for hits in found],
    similarities=[[hit.score for hit in hits] for hits in found],
    ranked=[[hit.id for hit in hits] for hits in ranked],
    scores=[[hit.score for hit in hits] for hits in ranked],
)
