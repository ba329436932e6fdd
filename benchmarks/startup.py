"""How long it takes to begin, beside the reference: the import, the command's help, and the first embedding.

    python benchmarks/startup.py

Each is a process of its own; the libraries take turns. Seconds by the clock, median over the rounds after one that warms up the
file system's cache; the ratio is the reference's over ours. Importing torch alone, which both do, stands beside them.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from common import alternate, arguments, model_folder, ratio, report

ENCODE = "from {0} import SentenceTransformer; SentenceTransformer({1!r}, device='cpu').encode('a text')"


def main() -> None:
    parser = arguments(__doc__)
    options = parser.parse_args()
    folder = model_folder(options.model)
    libraries = ("likewise", "sentence_transformers")
    first = [ENCODE.format(library, folder) for library in libraries]
    lines = {
        "import": [["-c", f"import {library}"] for library in libraries],
        "import the class": [["-c", f"from {library} import SentenceTransformer"] for library in libraries],
        "import the class and util": [
            ["-c", f"from {library} import SentenceTransformer, util"] for library in libraries
        ],
        "load MiniLM, first embedding": [["-c", code] for code in first],
        "--help (the other: import torch)": [["-m", "likewise", "--help"], ["-c", "import torch"]],
    }
    rows: list[dict[str, object]] = []
    for name, commands in lines.items():
        sides = [
            partial(subprocess.run, [sys.executable, *command], check=True, capture_output=True)
            for command in commands
        ]
        own, other = alternate(sides, options.rounds)
        median, low, high = ratio(own, other)
        rows.append(
            {
                "what": name,
                "s": sorted(own)[len(own) // 2],
                "reference": sorted(other)[len(other) // 2],
                "ratio": round(median, 2),
                "range": f"{low:.2f}-{high:.2f}",
            }
        )
    report(rows, options.json)


if __name__ == "__main__":
    main()
