"""Chroma: a collection that embeds what is put into it."""

import chromadb
from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction
from shared import MODEL, NAMES, QUERIES, SENTENCES, save, timed

function = SentenceTransformerEmbeddingFunction(model_name=MODEL, device="cpu", normalize_embeddings=True)
client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
with timed():
    collection = client.create_collection("functions", embedding_function=function)
    ids = [str(index) for index in range(len(NAMES))]
    collection.add(ids=ids, documents=SENTENCES)
    found = collection.query(query_texts=QUERIES, n_results=10)
    kept = collection.get(ids=ids[:20], include=["embeddings"])
save(names=found["ids"], distances=found["distances"], embeddings=kept["embeddings"])
