"""The report of a training run: figures by Vega-Lite, and one self-contained page."""
