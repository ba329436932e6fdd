"""KeyBERT: the words of a document that are nearest to it."""

from keybert import KeyBERT
from sentence_transformers import SentenceTransformer
from shared import MODEL, SENTENCES, save, timed

documents = [" ".join(SENTENCES[start : start + 10]) for start in range(0, 200, 10)]
found, used = [], []
for model in (SentenceTransformer(MODEL, device="cpu"), MODEL):
    keywords = KeyBERT(model)
    used.append(type(keywords.model).__name__)
    with timed():
        found.append(keywords.extract_keywords(documents, keyphrase_ngram_range=(1, 2), top_n=5))
save(
    backends=used,
    words=[[word for word, _ in words] for model in found for words in model],
    scores=[[score for _, score in words] for model in found for words in model],
)
