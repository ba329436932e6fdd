"""BERTopic: topics of documents, described by KeyBERTInspired, which embeds words itself."""

from bertopic import BERTopic
from bertopic.representation import KeyBERTInspired
from sentence_transformers import SentenceTransformer
from shared import MODEL, SENTENCES, save, timed
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

model = SentenceTransformer(MODEL, device="cpu")
topics = BERTopic(
    embedding_model=model,
    umap_model=PCA(5, random_state=0),
    hdbscan_model=KMeans(8, random_state=0, n_init=10),
    representation_model=KeyBERTInspired(random_state=0),
)
with timed():
    labels, _ = topics.fit_transform(SENTENCES)
    words = topics.get_topics()
save(
    backend=[type(topics.embedding_model).__name__],
    labels=[str(label) for label in labels],
    words=[word for topic in sorted(words) for word, _ in words[topic]],
    scores=[score for topic in sorted(words) for _, score in words[topic]],
    topics=topics.topic_embeddings_,
)
