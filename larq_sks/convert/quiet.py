"""Keeps TensorFlow and Larq Compute Engine from telling of their progress."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Hides messages of the level INFO, from Python and from C++; warnings and errors stay.

    The compute engine has a TensorFlow of its own, which reads the variable when it first has something to
    say. Who has set it gets what it says.
    """
    logger = logging.getLogger("tensorflow")  # at INFO in notebooks and interactive sessions
    level, is_set = logger.level, _VARIABLE in os.environ
    logger.setLevel(max(level, logging.WARNING))
    os.environ.setdefault(_VARIABLE, "1")
    try:
        yield
    finally:
        logger.setLevel(level)
        if not is_set:
            del os.environ[_VARIABLE]


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Hides what is written to standard error, also by C++ that knows no levels; an error shows it after all."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(shown, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
