"""LlamaIndex: embeddings, and a sentence-transformers reranker."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank
from shared import MODEL, NAMES, QUERIES, RERANKER, SENTENCES, save, timed

embedding = HuggingFaceEmbedding(model_name=MODEL, device="cpu", query_instruction="search: ")
reranker = SentenceTransformerRerank(model=RERANKER, top_n=5, device="cpu")
nodes = [
    NodeWithScore(node=TextNode(text=text, id_=name))
    for text, name in zip(SENTENCES[:40], NAMES[:40], strict=True)
]
with timed():
    texts = embedding.get_text_embedding_batch(SENTENCES)
    queries = [embedding.get_query_embedding(query) for query in QUERIES]
    ranked = [reranker.postprocess_nodes(nodes, query_str=query) for query in QUERIES]
save(
    texts=texts,
    queries=queries,
    best=[[hit.node.node_id for hit in hits] for hits in ranked],
    scores=[[hit.score for hit in hits] for hits in ranked],
)
