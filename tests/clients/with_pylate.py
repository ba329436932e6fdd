"""PyLate: a ColBERT model, which is a SentenceTransformer of its own making."""

import torch
from pylate import models, rank
from shared import MODEL, QUERIES, SENTENCES, save, timed

torch.manual_seed(0)  # of its projection
model = models.ColBERT(MODEL, embedding_size=64, device="cpu")
with timed():
    queries = model.encode(QUERIES, is_query=True, show_progress_bar=False)
    documents = model.encode(SENTENCES[:40], is_query=False, show_progress_bar=False)
    ranked = rank.rerank(
        documents_ids=[list(range(40))] * len(QUERIES),
        queries_embeddings=queries,
        documents_embeddings=[documents] * len(QUERIES),
    )
save(
    shapes=[list(document.shape) for document in documents],
    scores=[[hit["score"] for hit in sorted(hits, key=lambda hit: hit["id"])] for hits in ranked],
)
