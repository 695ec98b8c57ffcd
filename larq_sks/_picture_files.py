"""Figures of matplotlib as the bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def picture_bytes(figure: Figure, kind: str) -> bytes:
    """Writes a figure as a `"png"` or `"svg"`; the same figure gives the same bytes."""
    # Without the date, and with names of parts that do not change.
    with matplotlib.rc_context({"svg.hashsalt": "larq-sks"}), io.BytesIO() as file:
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else {})
        return file.getvalue()


def drawn(draw: Callable[[], Axes], kind: str) -> bytes:
    """Draws a picture for its bytes alone: no window opens, and pyplot does not keep the figure."""
    with pyplot.ioff():
        figure = draw().figure
    assert isinstance(figure, Figure)
    try:
        return picture_bytes(figure, kind)
    finally:
        pyplot.close(figure)
