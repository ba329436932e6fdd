"""Fewer dimensions: principal components of the embeddings as a Dense module at the model's end, and int8 on top.

    command   likewise train distil_dimensions --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2 of processor time, 12 on the clock there
    score     Spearman on the STS benchmark's test set (95 %): all 384 entries 0.8203 (0.7986 to 0.8419), the first 128 0.8068
              (0.7840 to 0.8273), 128 components 0.7983 (0.7743 to 0.8214); these with embeddings in int8 0.7908 (0.7671 to 0.8145),
              with weights in int8 0.7940 (0.7693 to 0.8177) and 1.2 times as fast

Here the components are no better than the first entries as they are: perhaps because they are found in captions,
and measured with sentences of all kinds.

Nothing is trained by gradients: the directions in which the embeddings of some thousand texts differ most become the rows of a
linear layer. What is compared: all entries, so many principal components, the first entries as they are, and the components
with the model's weights in int8 (for speed, where this machine gains by it) and with the embeddings in int8 (a quarter of the space).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from sklearn.decomposition import PCA

from likewise import SentenceTransformer
from likewise.evaluation import EmbeddingSimilarityEvaluator
from likewise.models import Dense
from likewise.recipes.common import captions, measure, parser, sts_test, table, times_as_fast, with_interval


def main() -> None:
    """Fit, and print the score of each form of the model."""
    options_of = parser(__doc__, rows=2000, batch_size=None)
    options_of.add_argument("--entries", type=int, default=128, help="dimensions to keep")
    options = options_of.parse_args()

    model, test = SentenceTransformer(options.model), sts_test(options.data)
    size = model.get_sentence_embedding_dimension()
    texts = list(captions(options.data, options.rows, ["caption1"])["caption1"])
    smaller = with_components(model, model.encode(texts), options.entries)

    scores: list[tuple[str, Any, str]] = [(f"all {size} entries", measure(test, model), "1.0")]
    with model.truncate_embeddings(options.entries):
        scores.append((f"the first {options.entries}", measure(test, model), "1.0"))
    speed = f"{times_as_fast(smaller, model, texts[:256]):.1f}"
    scores.append((f"{options.entries} components", measure(test, smaller), speed))
    int8 = EmbeddingSimilarityEvaluator(test.sentences1, test.sentences2, test.scores, precision="int8")
    scores.append((f"{options.entries} components, embeddings in int8", measure(int8, smaller), speed))
    probe = smaller.use_int8_weights(texts[:256])
    speed = f"{times_as_fast(smaller, model, texts[:256]):.1f}"
    name = "weights in int8" if probe.used else "weights in int8: no gain here, left in float32"
    scores.append((f"{options.entries} components, {name}", measure(test, smaller), speed))
    lines = [(name, with_interval(score), speed) for name, score, speed in scores]
    table(("model", "Spearman (95 %)", "times as fast"), lines)


def with_components(model: SentenceTransformer, embeddings: Any, entries: int) -> SentenceTransformer:
    """A copy of the model that gives the first principal components of these embeddings."""
    found = PCA(n_components=entries).fit(embeddings)
    dense = Dense(
        in_features=embeddings.shape[1],
        out_features=entries,
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=torch.tensor(found.components_, dtype=torch.float32),
    )
    smaller = copy.deepcopy(model)
    smaller.add_module(str(len(smaller)), dense)
    return smaller


if __name__ == "__main__":
    main()
