"""SentenceTransformerModelCardCallback: how a run tells the card; apart from the card's data, which models have without transformers' trainer."""

from likewise.card.callback import BaseModelCardCallback


class SentenceTransformerModelCardCallback(BaseModelCardCallback):
    """Keeps data sets, losses, arguments and the log of a run for the model card."""
