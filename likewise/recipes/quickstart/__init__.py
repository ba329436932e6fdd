"""The quickstart: find Python functions by what they do, with data that every machine with Python has."""
