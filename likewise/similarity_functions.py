"""SimilarityFunction, under the reference's path."""

from likewise.similarity import SimilarityFunction

__all__ = ["SimilarityFunction"]
