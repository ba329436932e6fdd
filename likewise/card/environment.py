"""Where a model was trained: versions, hardware, time, and the energy that CodeCarbon measured."""

from __future__ import annotations

import platform
from collections import Counter
from contextlib import suppress
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
        with suppress(PackageNotFoundError):
            found[title] = torch.__version__ if package == "torch" else version(package)
    return found


def hardware() -> dict[str, str]:
    """The devices at hand, by kind."""
    gpu = "Apple GPU" if torch.backends.mps.is_available() else "No GPU used"
    if torch.cuda.is_available():
        numbers = Counter(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        gpu = ", ".join(name if number == 1 else f"{number} x {name}" for name, number in numbers.items())
    return {"GPU Model": gpu, "CPU Model": _cpu(), "CPU Threads": str(torch.get_num_threads())}


def _cpu() -> str:
    """The processor's name, which only Linux hides in a file."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
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
