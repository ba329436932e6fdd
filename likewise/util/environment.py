"""What is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

from likewise.model.storage import check_version_requirements
from likewise.modules.device import best_device as get_device_name
from likewise.processes import is_dist_initialized

__all__ = [
    "check_package_availability",
    "check_version_requirements",
    "get_device_name",
    "is_accelerate_available",
    "is_datasets_available",
    "is_dist_initialized",
    "is_training_available",
]


def check_package_availability(package_name: str, owner: str) -> bool:
    """Whether a package of this name is installed whose home page names this owner."""
    try:
        found = metadata(package_name)
    except PackageNotFoundError:
        return False
    pages = [found["Home-page"] or "", *(found.get_all("Project-URL") or [])]
    return found["Name"] == package_name and any(owner in page for page in pages)


def is_accelerate_available() -> bool:
    """Whether Hugging Face's accelerate is installed."""
    return check_package_availability("accelerate", "huggingface")


def is_datasets_available() -> bool:
    """Whether Hugging Face's datasets is installed."""
    return check_package_availability("datasets", "huggingface")


def is_training_available() -> bool:
    """Whether what training takes is installed. It comes with this library, so that it should be."""
    return is_accelerate_available() and is_datasets_available()
