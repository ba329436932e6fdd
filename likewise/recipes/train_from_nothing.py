"""Train from nothing: a tokenizer and static embeddings from one's own text, then a transformer distilled into them.

    command   likewise train train_from_nothing --data ../data
    hardware  2 CPU cores (AVX2, 2.45 GHz)
    minutes   0.7
    score     Spearman on the STS benchmark's test set: 0.4688 with random vectors, 0.7194 after step 2, 0.7301 after step 3
              (the teacher has 0.8203)

Three steps, each of which can be had alone:

1. A WordPiece tokenizer is trained on the texts: ${data}/pairs/flickr30k-captions/en-train.parquet, five captions of each of
   29,000 pictures. Pictures that share a caption with the STS benchmark are left out, so that it can be measured with.
2. Vectors that start at random are trained: two captions of one picture should be closer than captions of two pictures.
3. all-MiniLM-L6-v2 embeds captions, and the vectors are trained on until they give about the same embeddings.

A StaticEmbedding is a table with one vector a token, and a text's embedding is the mean of its tokens' vectors. It knows no
word order, but embeds some hundred times faster than a transformer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed

from likewise import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from likewise.evaluation import EmbeddingSimilarityEvaluator
from likewise.modules import StaticEmbedding
from likewise.recipes.common import sts_test
from likewise.training.data.sources import Source

CAPTIONS = [f"caption{i}" for i in range(1, 6)]


def main() -> None:
    """Run the recipe and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with the data sets")
    parser.add_argument(
        "--out", type=Path, default=Path("models/train_from_nothing"), help="where the model is saved"
    )
    parser.add_argument(
        "--model", "--teacher", dest="teacher", default="all-MiniLM-L6-v2", help="the model to distil"
    )
    parser.add_argument("--vocabulary", type=int, default=16_000, help="tokens")
    parser.add_argument(
        "--distilled-captions", type=int, default=8_000, help="captions that the teacher embeds"
    )
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()

    started = time.perf_counter()
    set_seed(options.seed)  # for the vectors that start at random
    captions = Source(
        str(options.data / "pairs/flickr30k-captions/en-train.parquet"),
        columns=CAPTIONS,
        where={"overlaps_sts_eval": False},
    ).load()
    test = sts_test(options.data)
    teacher = SentenceTransformer(options.teacher)
    size = teacher.get_sentence_embedding_dimension() or 384

    tokenizer = train_tokenizer(
        [text for column in CAPTIONS for text in captions[column]], options.vocabulary
    )
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=size)], device="cpu")

    def tell(name: str, measured: SentenceTransformer = model) -> None:
        seconds = time.perf_counter() - started
        print(f"{name:<40} stsb-test Spearman {score(measured, test):.4f} after {seconds:.0f} s", flush=True)

    tell("random vectors")
    learn_from_captions(model, captions, options)
    tell("trained on captions")
    distil(model, teacher, captions, options)
    tell(f"{options.teacher} distilled into it")
    model.save_pretrained(str(options.out))
    print(f"Saved to {options.out}.")
    tell(f"{options.teacher} itself", teacher)


def train_tokenizer(texts: list[str], size: int) -> Any:
    """A WordPiece tokenizer of lower-case words and parts of words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def learn_from_captions(model: SentenceTransformer, captions: Dataset, options: argparse.Namespace) -> None:
    """Captions of one picture should be alike, those of others in the batch not."""
    pairs = Dataset.from_dict(
        {
            "anchor": [text for column in (CAPTIONS[0], CAPTIONS[2]) for text in captions[column]],
            "positive": [text for column in (CAPTIONS[1], CAPTIONS[3]) for text in captions[column]],
        }
    )
    loss = losses.MultipleNegativesRankingLoss(model)
    train(model, pairs, loss, options, num_train_epochs=3, learning_rate=0.05)


def distil(
    model: SentenceTransformer, teacher: SentenceTransformer, captions: Dataset, options: argparse.Namespace
) -> None:
    """A caption's embedding should be the teacher's, its length included: so frequent words come to weigh less."""
    texts = captions[CAPTIONS[4]][: options.distilled_captions]
    rows = Dataset.from_dict({"text": texts, "label": teacher.encode(texts)})
    train(model, rows, losses.MSELoss(model), options, num_train_epochs=10, learning_rate=0.01)


def train(
    model: SentenceTransformer,
    rows: Dataset,
    loss: Any,
    options: argparse.Namespace,
    **arguments: Any,
) -> None:
    """Train with large batches, as static vectors like them."""
    settings = {
        "output_dir": str(options.out),
        "per_device_train_batch_size": 1024,
        "warmup_ratio": 0.1,
        "logging_steps": 20,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": options.seed,
    }
    args = SentenceTransformerTrainingArguments(**settings | arguments)
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()


def score(model: SentenceTransformer, evaluator: EmbeddingSimilarityEvaluator) -> float:
    """The evaluator's primary metric."""
    return float(evaluator(model)[str(evaluator.primary_metric)])


if __name__ == "__main__":
    main()
