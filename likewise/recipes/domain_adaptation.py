"""Domain adaptation: read the domain's texts without labels first (TSDAE), then train on labelled pairs of another domain.

    command   likewise train domain_adaptation --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   2.4 of processor time, 7 on the clock there
    score     nDCG@10 of 600 held-out questions: 0.9062 as it is; 0.9057 with labelled pairs, -0.0005 (95 %: -0.0021 to +0.0011); 0.9092 after
              the domain's sentences alone, +0.0030 (+0.0007 to +0.0060); 0.9068 with both. Reading the domain first adds +0.0011
              (-0.0004 to +0.0029) to the labelled pairs: a small gain, for a model that knows such sentences already

The domain: sentences of encyclopedia articles, which questions are to find (SQuAD). The labelled pairs: captions of images. Two
models are trained on the same pairs, one of them after it has read the domain's sentences. The other way to adapt, with queries
made up for the domain's texts, is `likewise train gpl`.

Reference: Wang et al. 2021, https://arxiv.org/abs/2104.06979.
"""

from __future__ import annotations

from datasets import Dataset
from transformers import set_seed

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.datasets import DenoisingAutoEncoderDataset
from likewise.losses import DenoisingAutoEncoderLoss, MultipleNegativesRankingLoss
from likewise.recipes.common import (
    captions,
    change,
    measure,
    parser,
    question_search,
    questions,
    settings,
    table,
)


def main() -> None:
    """Train both ways, and print the score of each."""
    options_of = parser(__doc__, rows=320)
    options_of.add_argument(
        "--domain-rows", type=int, default=240, help="the domain's sentences that are read first"
    )
    options_of.add_argument("--queries", type=int, default=600, help="held-out questions to measure with")
    options = options_of.parse_args()

    set_seed(options.seed)  # which words are left out
    test = question_search(options.data, options.queries)
    pairs = captions(options.data, options.rows)
    sentences = list(dict.fromkeys(questions(options.data, options.domain_rows)["sentence"]))
    damaged = [DenoisingAutoEncoderDataset.delete(sentence) for sentence in sentences]
    domain = Dataset.from_dict({"damaged": damaged, "sentence": sentences})

    scores = {"as it is": measure(test, SentenceTransformer(options.model))}
    for name in ("labelled pairs", "domain, then pairs"):
        model = SentenceTransformer(options.model)
        args = SentenceTransformerTrainingArguments(**settings(options))
        if name != "labelled pairs":
            loss = DenoisingAutoEncoderLoss(model)
            SentenceTransformerTrainer(model=model, args=args, train_dataset=domain, loss=loss).train()
            scores["domain alone"] = measure(test, model)
        ranking = MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(model=model, args=args, train_dataset=pairs, loss=ranking).train()
        scores[name] = measure(test, model)
    first = scores["as it is"]
    lines = [(name, score.value, change(first, score)) for name, score in scores.items()]
    table(("trained on", "nDCG@10", "change (95 %)"), lines)
    gain = change(scores["labelled pairs"], scores["domain, then pairs"])
    print(f"\nwhat reading the domain first adds: {gain}")


if __name__ == "__main__":
    main()
