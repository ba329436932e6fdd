"""Which rows make a batch."""
