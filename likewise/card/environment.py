"""Where a model was trained: versions, hardware, time, and the energy that CodeCarbon measured."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from likewise.version import __version__

PACKAGES = {
    "Transformers": "transformers",
    "PyTorch": "torch",
    "Accelerate": "accelerate",
    "Datasets": "datasets",
    "Tokenizers": "tokenizers",
}


def versions() -> dict[str, str]:
    """Python, Likewise and the packages it is built on, as far as they are installed."""
    found = {"Python": platform.python_version(), "Likewise": __version__}
    for title, package in PACKAGES.items():
        try:
            found[title] = torch.__version__ if package == "torch" else version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """The devices at hand, by kind."""
    found = {}
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["GPU Model"] = ", ".join(
            name if names.count(name) == 1 else f"{names.count(name)} x {name}"
            for name in dict.fromkeys(names)
        )
    elif torch.backends.mps.is_available():
        found["GPU Model"] = "Apple GPU"
    else:
        found["GPU Model"] = "No GPU used"
    found["CPU Model"] = _cpu()
    found["CPU Threads"] = str(torch.get_num_threads())
    return found


def _cpu() -> str:
    """The processor's name, which only Linux hides in a file."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def emissions(callback: Any) -> dict[str, Any] | None:
    """What transformers' CodeCarbonCallback measured, in the Hub's words; None where it did not run."""
    tracker: Any = getattr(callback, "tracker", None)
    measured = getattr(tracker, "final_emissions_data", None)  # after its end, which forgets when it began
    if measured is None and getattr(tracker, "_start_time", None) is not None:
        measured = tracker._prepare_emissions_data()
    if measured is None:
        return None
    found = {
        "emissions": float(measured.emissions) * 1000,  # kg -> g
        "energy_consumed": float(measured.energy_consumed),
        "source": "codecarbon",
        "training_type": "fine-tuning",
        "on_cloud": measured.on_cloud == "Y",
        "cpu_model": measured.cpu_model,
        "ram_total_size": measured.ram_total_size,
    }
    return found | ({"hardware_used": measured.gpu_model} if measured.gpu_model else {})
