"""LangChain: embeddings, and a cross-encoder that reranks."""

from langchain.retrievers.document_compressors import CrossEncoderReranker
from langchain_community.cross_encoders import HuggingFaceCrossEncoder
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_huggingface import HuggingFaceEmbeddings
from shared import MODEL, NAMES, QUERIES, RERANKER, SENTENCES, save, timed

embeddings = HuggingFaceEmbeddings(
    model_name=MODEL, model_kwargs={"device": "cpu"}, encode_kwargs={"normalize_embeddings": True}
)
cross_encoder = HuggingFaceCrossEncoder(model_name=RERANKER, model_kwargs={"device": "cpu"})
with timed():
    store = InMemoryVectorStore(embeddings)
    documents = [Document(text, metadata={"name": name}) for text, name in zip(SENTENCES, NAMES, strict=True)]
    store.add_documents(documents)
    found = [store.similarity_search_with_score(query, k=10) for query in QUERIES]
    reranker = CrossEncoderReranker(model=cross_encoder, top_n=5)
    best = [
        reranker.compress_documents([document for document, _ in hits], query)
        for query, hits in zip(QUERIES, found, strict=True)
    ]
    scores = cross_encoder.score([(query, text) for query in QUERIES for text in SENTENCES[:20]])
save(
    query=embeddings.embed_query(QUERIES[0]),
    names=[[document.metadata["name"] for document, _ in hits] for hits in found],
    similarities=[[score for _, score in hits] for hits in found],
    best=[[document.metadata["name"] for document in hits] for hits in best],
    scores=scores,
)
