"""Pictures of codewords. They need matplotlib: `pip install '.[plot]'` in a checkout."""

from __future__ import annotations

import math

import numpy as np

try:
    from matplotlib import pyplot
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError(
        "`larq_sks.plot` needs matplotlib: pip install '.[plot]' in a checkout of larq_sks"
    ) from error

from larq_sks.analysis import Analysis, Histogram
from larq_sks.models import Codewords

# Dark blue and light orange differ in brightness, so that the signs can be told apart without colour.
_MINUS, _PLUS = (0.17, 0.25, 0.42), (0.98, 0.75, 0.36)


def tiles(chosen: Codewords, axes: Axes | None = None, columns: int = 8) -> Axes:
    """Draws the selected codewords as tiles, the most used first, with their share of use below each.

    Example:
        ```python
        chosen = sks.codewords(model)["stage3_2_conv"]
        sks.plot.tiles(chosen).figure.savefig("codewords.png")
        ```

    Arguments:
        chosen: The codewords of one kernel, from `larq_sks.codewords`; blocks of one or two axes.
        axes: Where to draw; `None` for a new figure.
        columns: Tiles a row, 1 or more.

    Returns:
        The axes. A weight of +1 is light, -1 is dark.

    Raises:
        ValueError: If `columns` is below 1.
    """
    if columns < 1:
        raise ValueError(f"`columns` must be 1 or more. Received: columns={columns}.")
    patterns = np.stack([np.atleast_2d(pattern) for pattern in chosen.patterns])
    count, height, width = patterns.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    if axes is None:
        _, axes = pyplot.subplots(figsize=(0.8 * columns, 1.0 * rows))
    gap, label = 0.8, 1.4
    for number, (pattern, used) in enumerate(zip(patterns, chosen.counts, strict=True)):
        left = number % columns * (width + gap)
        top = number // columns * (height + label)
        colours = np.where(pattern[..., np.newaxis] > 0, _PLUS, _MINUS)
        extent = (left, left + width, top + height, top)
        axes.imshow(colours, extent=extent, interpolation="nearest")
        share = f"{used / chosen.counts.sum():.1%}"
        axes.text(left + width / 2, top + height + 0.15, share, ha="center", va="top", fontsize=7)
    axes.set_xlim(-gap / 2, columns * (width + gap) - gap / 2)
    axes.set_ylim(rows * (height + label), -gap / 2)
    axes.set_aspect("equal")
    axes.axis("off")
    return axes


def use(chosen: dict[str, Codewords], axes: Axes | None = None) -> Axes:
    """Draws how unequally the kernels of a model use their codewords: share of blocks against rank.

    Example:
        ```python
        sks.plot.use(sks.codewords(model)).figure.savefig("use.png")
        ```

    Arguments:
        chosen: The codewords of each kernel, from `larq_sks.codewords`.
        axes: Where to draw; `None` for a new figure.

    Returns:
        The axes, both logarithmic: a power law is a straight line.
    """
    if axes is None:
        _, axes = pyplot.subplots(figsize=(6, 4))
    shades = pyplot.get_cmap("viridis")(np.linspace(0.0, 0.85, len(chosen)))
    for (name, codewords), shade in zip(chosen.items(), shades, strict=True):
        shares = codewords.counts / codewords.counts.sum()
        ranks = np.arange(1, len(shares) + 1)
        axes.plot(ranks[shares > 0], shares[shares > 0], color=shade, label=name)
    axes.set(xscale="log", yscale="log", xlabel="rank of the codeword", ylabel="share of blocks")
    axes.legend(fontsize=7)
    return axes


def ranks(analysis: Analysis, axes: Axes | None = None) -> Axes:
    """Draws the rank-frequency curves of a network's kernels, with what chance alone would give.

    Example:
        ```python
        sks.plot.ranks(sks.analysis.analyze(model)).figure.savefig("ranks.png")
        ```

    Arguments:
        analysis: From `larq_sks.analysis.analyze`.
        axes: Where to draw; `None` for a new figure.

    Returns:
        The axes, both logarithmic: a power law is a straight line. Thin lines are kernels from the first
            (dark) to the last (light), the thick line is all of them, the dashed one as many blocks whose
            signs are drawn by lot.
    """
    if axes is None:
        _, axes = pyplot.subplots(figsize=(6, 4))
    shades = pyplot.get_cmap("viridis")(np.linspace(0.0, 0.85, len(analysis.kernels)))
    for histogram, shade in zip(analysis.kernels, shades, strict=True):
        _rank_line(axes, histogram.counts, color=shade, linewidth=0.8)
    for histogram in analysis.together:
        size, patterns = histogram.counts.sum(), len(histogram.counts)
        _rank_line(axes, histogram.counts, color="black", linewidth=2.0, label=_block(histogram))
        drawn = np.random.default_rng(0).multinomial(size, np.full(patterns, 1 / patterns))
        _rank_line(axes, drawn, color="black", linestyle="--", label="at random")
    axes.set(xscale="log", yscale="log", xlabel="rank of the codeword", ylabel="share of blocks")
    axes.set_title(analysis.name, fontsize=9)
    axes.legend(fontsize=7)
    return axes


def _rank_line(axes: Axes, counts: np.ndarray, **style) -> None:
    shares = np.sort(counts[counts > 0])[::-1] / counts.sum()
    axes.plot(np.arange(1, len(shares) + 1), shares, **style)


def _block(histogram: Histogram) -> str:
    sizes = "×".join(str(size) for size in histogram.codeword_shape if size > 1)
    return f"all kernels, {sizes}"
