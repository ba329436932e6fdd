"""What `importlib.metadata` says of the reference while this package stands in for it."""

from __future__ import annotations

from importlib.metadata import Distribution
from os import PathLike
from pathlib import Path

from likewise.compat.names import API_VERSION


class AliasDistribution(Distribution):
    """The reference's distribution, of the release whose API this is."""

    def read_text(self, filename: str) -> str | None:
        """The metadata; no other file is there."""
        if filename != "METADATA":
            return None
        return f"Metadata-Version: 2.1\nName: sentence-transformers\nVersion: {API_VERSION}\n"

    def locate_file(self, path: str | PathLike[str]) -> Path:
        """A file beside this package."""
        return Path(__file__).parents[2] / path
