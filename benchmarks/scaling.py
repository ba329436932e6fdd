"""How time and memory grow: ten and a hundred times as much of each thing that may become large.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py

The model is a random one of one narrow layer, and texts are random words, so that what is not the model's shows. Each line is a
process of its own: seconds of the processor for one unit, and what is needed at most beyond what is held before, after one run of
the smallest size. What grows as its size does keeps its time a unit; a memory that does not grow is held in blocks.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import arguments, model_folder, report
from peak import in_process, measured

TIMES = (1, 10, 100)
WORDS = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "le") for b in ("man", "ter", "son", "ville")]


def text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def small(folder: str) -> Any:
    """A random model of one narrow layer, with the tokenizer of the model in a folder."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    from likewise import SentenceTransformer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    with tempfile.TemporaryDirectory() as saved:
        BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(saved)
        tokenizer.save_pretrained(saved)
        return SentenceTransformer(saved, device="cpu")


def training(folder: str, rows: int, batch: int, data_sets: int = 1, micro: int | None = None) -> None:
    """An epoch over rows of pairs, in so many data sets."""
    from datasets import Dataset

    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    model = small(folder)
    data = {
        f"set {number}": Dataset.from_dict(
            {name: [text(8, 2 * row + side) for row in range(rows)] for side, name in enumerate(("a", "b"))}
        )
        for number in range(data_sets)
    }
    with tempfile.TemporaryDirectory() as out:
        args = SentenceTransformerTrainingArguments(
            out,
            per_device_train_batch_size=batch,
            micro_batch_tokens=micro,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        loss = losses.MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(model, args, data if data_sets > 1 else data["set 0"], loss=loss).train()


def on_disk(folder: str, rows: int, sampler: str) -> None:
    """Ten steps over rows of pairs in a file that is mapped into memory."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    from likewise import SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses

    model, generator, words = small(folder), np.random.default_rng(0), pa.array(WORDS)
    names = ["anchor", "label"] if sampler == "group_by_label" else ["anchor", "positive"]
    with tempfile.TemporaryDirectory() as out:
        schema = pa.schema([(name, pa.int64() if name == "label" else pa.string()) for name in names])
        with pa.OSFile(f"{out}/rows.arrow", "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for first in range(0, rows, 10_000):
                numbers = pa.array(np.arange(first, min(first + 10_000, rows)))
                drawn = generator.integers(len(words), size=(5, len(numbers)))
                parts = [*map(words.take, drawn), numbers.cast(pa.string())]
                columns = [
                    pc.binary_join_element_wise(*parts, " "),
                    pc.binary_join_element_wise(*parts[::-1], " "),
                ]
                columns[1] = pa.array(drawn[0]) if "label" in names else columns[1]
                stream.write_batch(pa.record_batch(columns, schema=schema))
        args = SentenceTransformerTrainingArguments(
            out,
            max_steps=10,
            batch_sampler=sampler,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        kind = losses.BatchAllTripletLoss if "label" in names else losses.MultipleNegativesRankingLoss
        data = Dataset.from_file(f"{out}/rows.arrow")
        SentenceTransformerTrainer(model, args, data, loss=kind(model)).train()


def search(documents: int) -> None:
    from likewise.util import semantic_search

    generator = np.random.default_rng(0)
    corpus = generator.standard_normal((documents, 128), np.float32)
    semantic_search(torch.from_numpy(corpus[:100]), torch.from_numpy(corpus), top_k=10)


def encode(folder: str, texts: int, words: int) -> None:
    model = small(folder)
    model.max_seq_length = 512
    model.encode([text(words, row) for row in range(texts)], show_progress_bar=False)


def lines(folder: str) -> dict[str, tuple[str, int, Callable[[int], None]]]:
    """What grows: its unit, how many of them there are at first, and what works on so many times as many."""
    return {
        "rows of training data": ("row", 200, lambda n: training(folder, 200 * n, 16)),
        "rows of a batch, in chunks": ("row", 16, lambda n: training(folder, 16 * n, 16 * n, micro=2048)),
        **{
            f"rows on disk, {sampler}": (
                "row",
                50_000,
                lambda n, sampler=sampler: on_disk(folder, 50_000 * n, sampler),
            )
            for sampler in ("batch_sampler", "no_duplicates", "group_by_label")
        },
        "data sets": ("data set", 1, lambda n: training(folder, 32, 16, data_sets=n)),
        "texts of a call of encode": ("text", 100, lambda n: encode(folder, 100 * n, 8)),
        "words of a text (16 texts)": ("word", 64, lambda n: encode(folder, 16, 4 * n)),
        "documents of a search": ("document", 10_000, lambda n: search(10_000 * n)),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", default="", help="lines whose name begins so")
    parser.add_argument("--peak-of", default=None, help="for the benchmark itself")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    work = lines(model_folder(options.model))
    if options.peak_of is not None:
        name, times = json.loads(options.peak_of)
        work[name][2](1)
        found = measured(lambda: work[name][2](times))
        print(json.dumps({"seconds": found["processor_s"], "bytes": found["own_bytes"]}))
        return
    rows: list[dict[str, object]] = []
    for name, (unit, first, _) in work.items():
        for times in TIMES if name.startswith(options.only) else ():
            found = in_process(__file__, *sys.argv[1:], "--peak-of", json.dumps([name, times]))
            each = 1e6 * found["seconds"] / (first * times)
            rows.append(
                {
                    "what": name,
                    "times": times,
                    "us a unit": round(each),
                    "unit": unit,
                    "peak MB": round(found["bytes"] / 1e6),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    report(rows, options.json)


if __name__ == "__main__":
    main()
