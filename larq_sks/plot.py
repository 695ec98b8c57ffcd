"""Pictures of codewords and of what they cost. They need matplotlib: `pip install '.[plot]'` in a checkout.

Each function draws into axes and returns them; without any it makes a new figure, which pyplot keeps. Text
and thick lines have the colour of matplotlib's text, so that a dark style stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

try:
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError(
        "`larq_sks.plot` needs matplotlib: pip install '.[plot]' in a checkout of larq_sks"
    ) from error

from larq_sks import _pictured
from larq_sks.analysis import Analysis, Histogram, PowerLaw
from larq_sks.models import Codewords, Summary

# Dark blue and light orange differ in brightness, so that the signs can be told apart without colour.
_MINUS, _PLUS = (0.17, 0.25, 0.42), (0.98, 0.75, 0.36)
# Colours that stay apart for the colour-blind (Okabe and Ito, https://jfly.uni-koeln.de/color/).
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
_SERIES = (_BLUE, _RED, _GREEN, _PURPLE, _ORANGE)
_MARKERS = "osD^v"
_PALE = "#BBBBBB"


def tiles(chosen: Codewords, axes: Axes | None = None, columns: int = 8) -> Axes:
    """Draws the selected codewords as tiles, the most used first, with their share of use below each.

    Example:
        ```python
        chosen = sks.codewords(model)["stage3_2_conv"]
        sks.plot.tiles(chosen).figure.savefig("codewords.png")
        ```

    Arguments:
        chosen: The codewords of one kernel, from `larq_sks.codewords`.
        axes: Where to draw; `None` for a new figure.
        columns: Tiles a row, 1 or more.

    Returns:
        The axes. A weight of +1 is light, -1 is dark.

    Raises:
        ValueError: If `columns` is below 1.
    """
    if columns < 1:
        raise ValueError(f"`columns` must be 1 or more. Received: columns={columns}.")
    patterns = _pictured.flat_blocks(chosen.patterns)
    count, height, width = patterns.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    axes = axes or _new(0.8 * columns, 1.0 * rows)
    gap, label = 0.8, 1.4
    places = [
        (number % columns * (width + gap), number // columns * (height + label))
        for number in range(count)
    ]
    cells = PolyCollection(
        list(_pictured.squares(places, height, width)),
        facecolors=np.where(patterns.reshape(-1, 1) > 0, _PLUS, _MINUS),
        # Seams show how many weights a tile of one colour has.
        edgecolors="white",
        linewidths=0.5,
    )
    axes.add_collection(cells)
    for (left, top), used in zip(places, chosen.counts, strict=True):
        share = f"{used / chosen.counts.sum():.1%}"
        axes.text(left + width / 2, top + height + 0.15, share, ha="center", va="top", fontsize=8)
    axes.set_xlim(-gap / 2, columns * (width + gap) - gap / 2)
    axes.set_ylim(rows * (height + label), -gap / 2)
    axes.set_aspect("equal")
    axes.axis("off")
    return axes


def use(chosen: Mapping[str, Codewords], axes: Axes | None = None) -> Axes:
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
    axes = axes or _new(6, 4)
    for (name, codewords), shade in zip(chosen.items(), _shades(len(chosen)), strict=True):
        _rank_line(axes, codewords.counts, color=shade, label=name)
    _rank_axes(axes)
    axes.legend(fontsize=8, ncols=math.ceil(len(chosen) / 10))
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
            signs are drawn by lot. The red line is the power law that was fitted to the largest counts of
            all kernels, as far as it was fitted, with the verdict on it.
    """
    axes = axes or _new(6, 4)
    ink = matplotlib.rcParams["text.color"]
    for histogram, shade in zip(analysis.kernels, _shades(len(analysis.kernels)), strict=True):
        _rank_line(axes, histogram.counts, color=shade, linewidth=0.8)
    for histogram in analysis.together:
        size, patterns = histogram.counts.sum(), len(histogram.counts)
        _rank_line(axes, histogram.counts, color=ink, linewidth=2.0, label=_block(histogram))
        drawn = np.random.default_rng(0).multinomial(size, np.full(patterns, 1 / patterns))
        _rank_line(axes, drawn, color=ink, linestyle="--", label="signs drawn by lot")
        if histogram.power_law is not None:
            _law_line(axes, histogram.power_law, size)
    _rank_axes(axes)
    axes.set_title(analysis.name, fontsize=9)
    axes.legend(fontsize=8, loc="lower left")
    return axes


def selection(history: Sequence[Mapping[str, np.ndarray]], axes: Axes | None = None) -> Axes:
    """Draws how the selection moves in training: which codewords each kernel had after which epoch.

    Example:
        ```python
        log = sks.callbacks.SelectionLog()
        model.fit(data, epochs=20, callbacks=[sks.callbacks.SelectionSchedule(), log])
        sks.plot.selection(log.selected).figure.savefig("selection.png")
        ```

    Arguments:
        history: For each epoch the selected codewords by kernel, as `SelectionLog.selected` has them.
        axes: Where to draw; `None` for a new figure.

    Returns:
        The axes. Each line of the picture is a codeword that a kernel had at some time, in the order in
            which they came and went; behind the kernel's name stands how many of its last codewords came
            after its first choice. Epochs in which a kernel had more codewords than in the end, such
            as the whole codebook, are grey.

    Raises:
        ValueError: If `history` is empty, or an epoch has other kernels than the first.
    """
    if not history or any(epoch.keys() != history[0].keys() for epoch in history):
        raise ValueError(
            "`history` must hold one or more epochs, all with the same kernels. Received: "
            f"{len(history)} epochs with kernels {[list(epoch) for epoch in history]}."
        )
    bands = {
        name: _pictured.band([np.asarray(epoch[name]) for epoch in history]) for name in history[0]
    }
    rows = np.cumsum([0, *(len(each) for each in bands.values())])
    axes = axes or _new(7, 1 + max(2.0, 0.25 * len(bands), 0.012 * rows[-1]))
    colours = np.array([(0, 0, 0, 0), *map(to_rgba, (_PALE, _BLUE, _ORANGE))])
    axes.imshow(
        colours[np.concatenate(list(bands.values()))],
        extent=(0.5, len(history) + 0.5, rows[-1], 0),
        interpolation="nearest",
        aspect="auto",
    )
    for edge in rows[1:-1]:
        axes.axhline(edge, color=matplotlib.rcParams["text.color"], linewidth=0.8)
    names = []
    for name, each in bands.items():
        came = np.sum(each[:, -1] == _pictured.LATER)
        names.append(f"{name}  +{came}" if came else name)
    axes.set_yticks((rows[:-1] + rows[1:]) / 2, names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    kinds = {
        _pictured.MANY: "whole codebook",
        _pictured.FIRST: "of the first choice",
        _pictured.LATER: "came later",
    }
    handles = [
        Patch(color=colours[kind], label=label)
        for kind, label in kinds.items()
        if any((each == kind).any() for each in bands.values())
    ]
    axes.legend(handles=handles, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return axes


def accuracy(points: Mapping[str, Sequence[tuple[float, ...]]], axes: Axes | None = None) -> Axes:
    """Draws accuracy against bits a weight, a line for each network or way of training.

    Example:
        ```python
        sks.plot.accuracy({"learned": [(0.33, 70.0, 0.1), (0.56, 73.6, 0.1)], "1 bit": [(1.0, 74.5)]})
        ```

    Arguments:
        points: For each line of the legend its points: bits a weight, accuracy in percent and, where it
            is known, the accuracy's error, drawn as a bar to both sides. In any order.
        axes: Where to draw; `None` for a new figure.

    Returns:
        The axes. Where the first numbers are sizes, say so with `axes.set_xlabel`.

    Raises:
        ValueError: If a point has not two or three numbers.
    """
    axes = axes or _new(6, 4)
    for number, (label, line) in enumerate(points.items()):
        if any(len(point) not in (2, 3) for point in line):
            raise ValueError(
                "`points` must hold tuples (bits, accuracy) or (bits, accuracy, error). "
                f"Received: {label!r}: {line!r}."
            )
        ordered = sorted((*point, math.nan)[:3] for point in line)
        bits, accuracies, errors = zip(*ordered, strict=True) if ordered else ((), (), ())
        axes.errorbar(
            bits,
            accuracies,
            # None where no error is known; a bar of size NaN warns.
            np.nan_to_num(errors) if np.isfinite(errors).any() else None,
            color=_SERIES[number % len(_SERIES)],
            marker=_MARKERS[number % len(_MARKERS)],
            capsize=3,
            label=label,
        )
    axes.set(xlabel="bits a binary weight", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return axes


def sizes(summary: Summary, axes: Axes | None = None) -> Axes:
    """Draws what each layer of a network takes, as stacked bars, beside what it would take at 1 bit.

    Example:
        ```python
        sks.plot.sizes(sks.models.summary(model)).figure.savefig("sizes.png")
        ```

    Arguments:
        summary: From `larq_sks.models.summary`.
        axes: Where to draw; `None` for a new figure.

    Returns:
        The axes, in KiB: a bar for each layer with kernels, from the first above to the last below, and one
            for all others together. Where a line stands beside a bar, the layer would end there if its
            binary kernels took one bit a weight.
    """
    names = [layer.name for layer in summary.layers if layer.kernels]
    bars = [_pictured.layer_parts(layer) for layer in summary.layers if layer.kernels]
    rest = [layer.other_bits for layer in summary.layers if not layer.kernels]
    if rest:
        names.append(f"{len(rest)} layers without kernel")
        bars.append((_pictured.Parts(0, 0, 0, sum(rest)),) * 2)
    axes = axes or _new(7, 1.2 + 0.22 * len(bars))
    places, left = np.arange(len(bars)), np.zeros(len(bars))
    labels = ["codeword indices", "codebooks", "other kernels", "other weights"]
    kib = np.array([now for now, _ in bars]).T / 8192
    for part, colour, label in zip(kib, (_BLUE, _ORANGE, _GREEN, _PALE), labels, strict=True):
        if part.any():
            axes.barh(places, part, left=left, color=colour, label=label)
            left += part
    at_one_bit = np.array([one.total for _, one in bars]) / 8192
    less = at_one_bit > left
    if less.any():
        ink = matplotlib.rcParams["text.color"]
        ends = places[less] - 0.4, places[less] + 0.4
        axes.vlines(at_one_bit[less], *ends, color=ink, label="with 1 bit a binary weight")
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set(xlabel="KiB", title=f"{summary.name}: {summary.bits / 8192:,.1f} KiB")
    axes.legend(fontsize=8)
    return axes


def _new(width: float, height: float) -> Axes:
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def _shades(count: int) -> np.ndarray:
    """Returns colours from dark to light that can be seen on white and on black."""
    return matplotlib.colormaps["viridis"](np.linspace(0.15, 0.85, count))


def _rank_axes(axes: Axes) -> None:
    axes.set(xscale="log", yscale="log", xlabel="rank of the codeword", ylabel="share of blocks")
    # Plain numbers at 1, 2, 5, 10, ...: powers of ten alone leave a short axis without a number.
    for axis, factor, unit in ((axes.xaxis, 1, ""), (axes.yaxis, 100, "%")):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(_plain(factor, unit))
        axis.set_minor_formatter(NullFormatter())


def _plain(factor: float, unit: str) -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{factor * value:g}{unit}")


def _rank_line(axes: Axes, counts: np.ndarray, **style) -> None:
    axes.plot(*_pictured.rank_shares(counts), **style)


def _law_line(axes: Axes, law: PowerLaw, blocks: int) -> None:
    ranks, counts = _pictured.law_counts(law)
    label = f"power law, α = {law.alpha:.2f} ({law.verdict})"
    axes.plot(ranks, counts / blocks, color=_RED, linewidth=1.5, label=label)


def _block(histogram: Histogram) -> str:
    sizes = "×".join(str(size) for size in histogram.codeword_shape if size > 1)
    return f"all kernels, {sizes}"
