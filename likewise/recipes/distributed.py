"""Distributed training: two processes train one model, each on half of every batch, and see each other's negatives.

    command   likewise train distributed --data ../data
    hardware  2 cores (AVX-512), one thread in each of two processes, a dozen others beside them
    minutes   1.1 of processor time, 2 on the clock there
    score     nDCG@10 of 300 held-out questions: 0.9416 before, 0.9400 after: -0.0017 (95 %: -0.0043 to +0.0003): captions teach nothing
              about questions, and what is shown is that both processes train one model

Nothing in the training says that there are several: `torchrun --nproc-per-node 2 SCRIPT` starts the script as often, and the trainer
does the rest. Started by itself, as above, the script calls torchrun for itself. `gather_across_devices` lets each process take
the texts of the others as negatives too, so that two processes with 16 rows each train as one with 32 would. On this machine
both share the same two cores, so it is no faster; on two GPUs it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from likewise import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from likewise.losses import MultipleNegativesRankingLoss
from likewise.recipes.common import before_and_after, captions, measure, parser, question_search, settings


def main() -> None:
    """Start the processes; in each, train; in the first, print the score before and after."""
    options_of = parser(__doc__, rows=512)
    options_of.add_argument("--processes", type=int, default=2)
    options_of.add_argument("--queries", type=int, default=300, help="held-out questions to measure with")
    options = options_of.parse_args()
    if "RANK" not in os.environ:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        processes = ["--nproc-per-node", str(options.processes)]
        subprocess.run([*torchrun, *processes, str(Path(__file__)), *sys.argv[1:]], check=True)
        return

    model = SentenceTransformer(options.model)
    test = question_search(options.data, options.queries)
    is_first = os.environ["RANK"] == "0"
    before = measure(test, model) if is_first else None
    arguments = settings(
        options,
        per_device_train_batch_size=options.batch_size // options.processes,
        use_cpu=not torch.cuda.is_available(),  # without it, each process would train alone on a machine without a GPU
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**arguments),
        train_dataset=captions(options.data, options.rows),
        loss=MultipleNegativesRankingLoss(model, gather_across_devices=True),
    )
    trainer.train()
    if before is not None:
        print(f"\n{trainer.args.world_size} processes, {trainer.state.global_step} steps")
        before_and_after({"questions": before}, {"questions": measure(test, model)})


if __name__ == "__main__":
    main()
