"""How fast each backend and each 8-bit form embeds, and what it costs in quality.

    python benchmarks/backends.py --data ../shared/data

All take turns in one process with the reference, which computes in float32 with torch; the ratio is its time over theirs.
Quality: the Spearman correlation on the STS benchmark's test set, and the least cosine between a text's embedding and the
one of float32. The ranges of the 8-bit OpenVINO graph are found on sentences of the validation set.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from common import REDUCED, alternate, arguments, column, model_folder, ratio, reduce_weights, report
from scipy.stats import spearmanr


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--texts", type=int, default=600, help="sentences that are timed")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import sentence_transformers

    folder = model_folder(options.model)
    pairs = column(options.data / "sts/stsb-multi/en-test.parquet", "sentence1", "sentence2", "score")
    texts = pairs[0][: options.texts]
    calibration = column(options.data / "sts/stsb-multi/en-dev.parquet", "sentence1")[0][:300]
    models = {"reference": sentence_transformers.SentenceTransformer(folder, device="cpu")}
    with tempfile.TemporaryDirectory() as temporary:
        models |= all_forms(folder, Path(temporary), calibration)
        sides = [
            lambda model=model: model.encode(texts, show_progress_bar=False) for model in models.values()
        ]
        seconds = dict(zip(models, alternate(sides, options.rounds), strict=True))
        exact = models["torch"].encode(texts, show_progress_bar=False)
        rows = []
        for name, model in models.items():
            median, low, high = ratio(seconds[name], seconds["reference"])
            cosines = (model.encode(texts, show_progress_bar=False) * exact).sum(axis=1)
            first, second = (model.encode(side, show_progress_bar=False) for side in pairs[:2])
            score = spearmanr((first * second).sum(axis=1), pairs[2]).statistic
            rows.append(
                {
                    "backend": name,
                    "texts/s": round(len(texts) / float(np.median(seconds[name]))),
                    "ratio": round(median, 2),
                    "range": f"{low:.2f}-{high:.2f}",
                    "STS": f"{score:.4f}",
                    "least cosine": f"{cosines.min():.4f}",
                }
            )
    report(rows, options.json)


def all_forms(folder: str, temporary: Path, calibration: list[str]) -> dict[str, object]:
    """The model behind each backend, plain, optimised and in 8 bits; new graphs are written to `temporary`."""
    import likewise

    def load(backend: str = "torch", where: Path | str = folder, file: str | None = None) -> object:
        kwargs = {} if file is None else {"file_name": file}
        return likewise.SentenceTransformer(str(where), device="cpu", backend=backend, model_kwargs=kwargs)

    forms = {"torch": load(), **{f"torch{end}": load() for end in REDUCED}}
    for name, model in forms.items():
        reduce_weights(name, model, calibration)
    for backend in ("onnx", "openvino"):
        forms[backend] = load(backend)
        forms[backend].save(str(temporary / backend))
    graphs = temporary / "onnx"
    likewise.export_optimized_onnx_model(forms["onnx"], "O3", str(graphs))
    instructions, file = ("avx2", "model_quint8_avx2.onnx")
    if torch.cpu._is_vnni_supported():
        instructions, file = ("avx512_vnni", "model_qint8_avx512_vnni.onnx")
    likewise.export_dynamic_quantized_onnx_model(forms["onnx"], instructions, str(graphs))
    forms["onnx, O3"] = load("onnx", graphs, "model_O3.onnx")
    forms[f"onnx, 8 bits ({instructions})"] = load("onnx", graphs, file)
    graphs = temporary / "openvino"
    likewise.export_static_quantized_openvino_model(forms["openvino"], None, str(graphs), texts=calibration)
    forms["openvino, 8 bits"] = load("openvino", graphs, "openvino_model_qint8_quantized.xml")
    return forms


if __name__ == "__main__":
    main()
