"""TSDAE: a decoder restores a damaged sentence from nothing but its embedding. No labels, no pairs.

    command   likewise train tsdae --data ../data
    hardware  2 cores (AVX-512), one thread, a dozen other processes beside it
    minutes   3 of processor time, 7 on the clock there
    score     STS benchmark's Spearman: 0.8203 before, 0.7874 after: -0.0329 (95 %: -0.0407 to -0.0255): it harms a model that has learnt
              from pairs, and is for one that has not

Of each sentence (captions of images) more than half of the words are left out; the model embeds what remains, and a decoder, which
shares its weights, has to write the whole sentence from that.

Reference: Wang et al. 2021, https://arxiv.org/abs/2104.06979.
"""

from __future__ import annotations

from datasets import Dataset
from transformers import set_seed

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.datasets import DenoisingAutoEncoderDataset
from likewise.losses import DenoisingAutoEncoderLoss
from likewise.recipes.common import before_and_after, captions, measure, parser, settings, sts_test


def main() -> None:
    """Train, and print the score before and after."""
    options_of = parser(__doc__, rows=960)
    options_of.add_argument("--learning-rate", type=float, default=3e-5)
    options = options_of.parse_args()

    set_seed(options.seed)  # which words are left out
    model, test = SentenceTransformer(options.model), sts_test(options.data)
    before = measure(test, model)
    sentences = list(captions(options.data, options.rows, ["caption1"])["caption1"])
    damaged = [DenoisingAutoEncoderDataset.delete(sentence) for sentence in sentences]
    rows = Dataset.from_dict({"damaged": damaged, "sentence": sentences})
    args = SentenceTransformerTrainingArguments(**settings(options, learning_rate=options.learning_rate))
    loss = DenoisingAutoEncoderLoss(model, tie_encoder_decoder=True)
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()
    before_and_after({"stsb-test": before}, {"stsb-test": measure(test, model)})


if __name__ == "__main__":
    main()
