"""InfoNCE over very large batches: time and peak memory of the loss stage, beside the reference's cached loss.

    python benchmarks/large_batch.py --data ../shared/data

The loss stage is what happens between embeddings and their gradients, for pairs of random embeddings. Each measurement
runs in a fresh process, so that its peak is its own; the sides take turns. Times are CPU time on one thread, which other
programs on the machine hardly disturb. A side that would take longer than `--limit-s`, by 16 times what a quarter of the
pairs took, is not run. Last, the share of the loss stage in a whole step, with the encoder's time on real captions (the
shortest texts at hand, so the largest share), measured on a part of the batch.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import arguments, column, model_folder, report

SIDES = {"likewise": 0, "reference, mini-batch 32": 32, "reference, mini-batch 512": 512}
SAMPLE_PAIRS = 256  # whose encoding is timed


def loss_stage(mini_batch_size: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A function from two (B, D) batches to their loss, which leaves the gradients with them. 0: this library's."""
    if not mini_batch_size:
        from likewise.losses import MultipleNegativesRankingLoss

        own = MultipleNegativesRankingLoss(torch.nn.Identity())  # type: ignore[arg-type]

        def run(anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
            loss = own.compute([anchors, positives])
            loss.backward()
            return loss.detach()

        return run
    warnings.simplefilter("ignore")
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    class Model(torch.nn.Identity):
        def __getitem__(self, _: int) -> Any:
            return self

    other: Any = CachedMultipleNegativesRankingLoss(Model(), mini_batch_size=mini_batch_size)  # type: ignore[arg-type]

    def run_theirs(anchors: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
        # As `forward` does: the embeddings lie there in mini-batches.
        parts = [
            [part.detach().requires_grad_() for part in column.split(mini_batch_size)]
            for column in (anchors, positives)
        ]
        loss: torch.Tensor = other.calculate_loss(parts, with_backward=True)
        return loss

    return run_theirs


def measure(mini_batch_size: int, pairs: int, size: int, answer: Any) -> None:
    """Put (CPU seconds, peak MiB beyond the embeddings, loss) into `answer`."""
    torch.set_num_threads(1)
    run = loss_stage(mini_batch_size)
    generator = torch.Generator().manual_seed(1)
    anchors = torch.randn(pairs, size, generator=generator)
    positives = anchors + torch.randn(pairs, size, generator=generator)
    run(anchors[:256].clone().requires_grad_(), positives[:256].clone().requires_grad_())  # warm up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    loss = run(anchors.requires_grad_(), positives.requires_grad_())
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    answer.put((seconds, peak / 1024, float(loss)))


def measured_apart(mini_batch_size: int, pairs: int, size: int) -> tuple[float, float, float]:
    """`measure` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=measure, args=(mini_batch_size, pairs, size, answer))
    process.start()
    found: tuple[float, float, float] = answer.get()
    process.join()
    return found


def encoder_seconds_per_pair(folder: str, data: Path, micro_batch_tokens: int) -> float:
    """Forward and backward passes in recomputed chunks, with dropout, on pairs of captions."""
    from likewise import SentenceTransformer
    from likewise.engine import ColumnBatch
    from likewise.losses.recompute import recompute

    model = SentenceTransformer(folder, device="cpu").train()
    captions = column(data / "pairs/flickr30k-captions/en-train.parquet", "caption1", "caption2")
    texts = [text for column in captions for text in column[:SAMPLE_PAIRS]]
    batch = ColumnBatch(model.token_sequences(texts).pack(), 2)
    run = recompute(micro_batch_tokens)

    def once() -> None:
        run(lambda tokens: model({"tokens": tokens})["sentence_embedding"], batch.tokens).sum().backward()

    once()
    start = time.process_time()
    once()
    return (time.process_time() - start) / SAMPLE_PAIRS


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--pairs", type=int, nargs="+", default=[4096, 16384, 65536])
    parser.add_argument("--size", type=int, default=384, help="entries of an embedding")
    parser.add_argument(
        "--limit-s", type=float, default=400, help="longest time for one measurement, in CPU seconds"
    )
    parser.add_argument("--micro-batch-tokens", type=int, default=1536, help="for the encoder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, embeddings of {options.size} entries, float32", flush=True)
    rows: list[dict[str, object]] = []
    seconds: dict[tuple[str, int], float] = {}
    for pairs in options.pairs:
        for side, mini_batch_size in SIDES.items():
            last = max((number for name, number in seconds if name == side), default=None)
            row: dict[str, object] = {"pairs": pairs, "side": side}
            expected = 0.0 if last is None else seconds[side, last] * (pairs / last) ** 2
            if expected > options.limit_s:
                row |= {
                    "CPU s": f"about {expected:.0f}, not run",
                    "peak MiB": "",
                    "times ours": "",
                    "loss": "",
                }
            else:
                found = [measured_apart(mini_batch_size, pairs, options.size) for _ in range(options.rounds)]
                fastest = min(found)
                seconds[side, pairs] = fastest[0]
                row |= {
                    "CPU s": f"{fastest[0]:.2f}",
                    "peak MiB": round(fastest[1]),
                    "times ours": round(fastest[0] / seconds["likewise", pairs], 2),
                    "loss": f"{fastest[2]:.6f}",
                }
            print(row, flush=True)
            rows.append(row)
    report(rows, options.json)
    per_pair = encoder_seconds_per_pair(model_folder(options.model), options.data, options.micro_batch_tokens)
    print(
        f"\nencoder: {1000 * per_pair:.2f} ms a pair, in recomputed chunks of {options.micro_batch_tokens} tokens"
    )
    shares = [(pairs, seconds["likewise", pairs], per_pair * pairs) for pairs in options.pairs]
    report(
        [
            {
                "pairs": pairs,
                "encoder s (scaled)": f"{encoder:.1f}",
                "loss stage s": f"{loss:.2f}",
                "share of the step": f"{loss / (loss + encoder):.1%}",
            }
            for pairs, loss, encoder in shares
        ],
        None,
    )


if __name__ == "__main__":
    main()
