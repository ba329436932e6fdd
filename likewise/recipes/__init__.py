"""Recipes that come with the package, each with what makes its data."""
