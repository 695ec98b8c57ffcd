"""Draws the picture of the method, from codebook to kernel, of a trained network: `python docs/pictures.py`.

It shows the last binary convolution of the ResNet20 with 32 codewords that is in the package. The same
versions of matplotlib write the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import ConnectionPatch, Rectangle

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks._picture_files import picture_bytes
from larq_sks.plot import _MINUS, _PLUS, _RED

FILE = Path(__file__).parent / "images" / "method.svg"
LAYER = "stage3_6_conv"
INK, PALE = "#333333", "#BBBBBB"
STEP = 4
"""A tile of 3×3 weights, and the gap to the next."""
SHOWN = 16
"""Input and output channels of the kernel that are drawn."""


def main() -> None:
    """Writes the picture."""
    model = zoo.ResNet20(num_codewords=32, weights="cifar10")
    chosen = sks.codewords(model)[LAYER]
    (kernel,) = (each for each in sks.layers.sparse_kernels(model) if each.name == LAYER)
    with matplotlib.rc_context({"text.color": INK, "font.size": 9, "svg.image_inline": True}):
        figure = draw(chosen.indices, kernel.assigned().reshape(kernel.latent().shape[2:]))
        FILE.write_bytes(picture_bytes(figure, "svg"))
    pyplot.close(figure)


def draw(indices: np.ndarray, blocks: np.ndarray) -> Figure:
    """Draws the four parts.

    Arguments:
        indices: The selected codewords, the most used first.
        blocks: The codeword of each block of the kernel, input by output channels.
    """
    count, marked = len(indices), 2  # the first two are plain: nine times the same sign
    figure, parts = pyplot.subplots(
        1,
        4,
        figsize=(10, 4.2),
        width_ratios=(1.75, 1.2, 1.6, 3.1),
        layout=ConstrainedLayoutEngine(wspace=0.12),
    )
    book, permutation, few, kernel = parts

    order = np.sort(indices)
    row = int(np.searchsorted(order, indices[marked]))
    everything = np.arange(512).reshape(32, 16)  # as tall as the permutation beside it
    tiles(book, everything, np.isin(everything, indices))
    frame(book, *np.argwhere(everything == indices[marked])[0])
    book.set_title("codebook\nall 512 sign patterns", fontsize=9)

    permutation.scatter(np.arange(count), order, s=6, color=INK, linewidths=0)
    permutation.scatter([row], [order[row]], s=30, facecolors="none", edgecolors=_RED)
    permutation.axvspan(count + 1, count + 7, color=PALE)
    permutation.text(count + 4, 256, "480 not selected", rotation=90, ha="center", va="center")
    permutation.set(xlim=(-2, count + 7), ylim=(520, -8), xticks=[], yticks=[])
    permutation.set_xlabel("32 columns")
    permutation.set_ylabel("512 rows")
    permutation.set_title("permutation\nchooses 32 rows", fontsize=9)

    codewords = order.reshape(8, 4)
    tiles(few, codewords)
    frame(few, *divmod(row, 4))
    few.set_title("32 codewords\nof this layer", fontsize=9)

    shown = blocks[:SHOWN, :SHOWN]
    tiles(kernel, shown)
    for place in np.argwhere(shown == indices[marked]):
        frame(kernel, *place)
    kernel.set_title("kernel\neach slice is a codeword: 5 bits, not 9", fontsize=9)

    for left, right in zip(parts[:-1], parts[1:], strict=True):
        arrow = ConnectionPatch(
            (1.03, 0.5),
            (-0.03 if right is not permutation else -0.2, 0.5),
            *("axes fraction",) * 2,
            axesA=left,
            axesB=right,
            arrowstyle="-|>",
            color=INK,
        )
        figure.add_artist(arrow)
    return figure


def tiles(axes: Axes, codewords: np.ndarray, strong: np.ndarray | None = None) -> None:
    """Draws a table of codewords as tiles, pale where they are not `strong`."""
    rows, columns = codewords.shape
    picture = np.ones((rows * STEP + 1, columns * STEP + 1, 3))  # with a gap around
    signs = sks.codebook.to_signs(codewords, 9).reshape(rows, columns, 3, 3)
    colours = np.where(signs[..., np.newaxis] > 0, _PLUS, _MINUS)
    if strong is not None:
        colours = np.where(
            strong[..., np.newaxis, np.newaxis, np.newaxis], colours, 0.75 + 0.25 * colours
        )
    for row, column in np.ndindex(rows, columns):
        top, left = row * STEP + 1, column * STEP + 1
        picture[top : top + 3, left : left + 3] = colours[row, column]
    axes.imshow(picture, interpolation="none")
    axes.axis("off")


def frame(axes: Axes, row: int, column: int) -> None:
    """Marks a tile."""
    corner = (column * STEP, row * STEP)  # pixels are around whole numbers: half of the gap
    axes.add_patch(Rectangle(corner, STEP, STEP, fill=False, edgecolor=_RED, linewidth=1.2))


if __name__ == "__main__":
    main()
