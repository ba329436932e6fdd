"""Log messages beside progress bars, and none at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

NOTICE = 25  # between INFO and WARNING


class LoggingHandler(logging.Handler):
    """Prints log messages above a progress bar, and not into it.

    logging.basicConfig(format="%(asctime)s - %(message)s", level=logging.INFO, handlers=[LoggingHandler()])
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        from tqdm.auto import tqdm

        try:
            tqdm.write(self.format(record))
        except Exception:
            self.handleError(record)


def install_logger(
    given_logger: logging.Logger,
    level: int | str = logging.WARNING,
    fmt: str = "%(levelname)s:%(name)s:%(message)s",
) -> None:
    """Print a logger's messages from this level up, in this format, above progress bars.

    There is a level NOTICE, 25, then: `logger.log(25, ...)`. Calling this again changes level and format.
    """
    logging.addLevelName(NOTICE, "NOTICE")
    for handler in list(given_logger.handlers):
        if isinstance(handler, LoggingHandler):
            given_logger.removeHandler(handler)
    handler = LoggingHandler()
    handler.setFormatter(logging.Formatter(fmt))
    given_logger.addHandler(handler)
    given_logger.setLevel(level)


@contextmanager
def disable_logging(highest_level: int = logging.CRITICAL) -> Iterator[None]:
    """Within this context no message up to this level is logged."""
    before = logging.root.manager.disable
    logging.disable(highest_level)
    try:
        yield
    finally:
        logging.disable(before)
