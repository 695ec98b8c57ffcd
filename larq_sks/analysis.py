"""How unequally binary kernels use the sign patterns: histograms, their entropy, power-law fits."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import tensorflow as tf

from larq_sks import _calls, codebook
from larq_sks._figures import use
from larq_sks._histograms import (
    TOP,
    Figures,
    at_random,
    figures,
    histogram,
    opposite_share,
    rank_slope,
    top_share,
)
from larq_sks._power_law import Comparison, PowerLaw, check_powerlaw, power_law
from larq_sks.layers import ROLES, kernel_name

__all__ = [
    "TOP",
    "Analysis",
    "Comparison",
    "Figures",
    "Histogram",
    "PowerLaw",
    "analyze",
    "analyze_kernels",
    "at_random",
    "check_powerlaw",
    "figures",
    "histogram",
    "opposite_share",
    "power_law",
    "rank_slope",
    "top_share",
]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a kernel, or several together, have each codeword."""

    name: str
    codeword_shape: tuple[int, ...]
    """The block's size along each axis of the kernel."""
    counts: np.ndarray = field(repr=False)
    """Number of blocks with each codeword, int64 `(2^K,)`."""
    figures: Figures
    at_random: Figures
    """Means over kernels of as many blocks whose signs are drawn by lot."""
    power_law: PowerLaw | None
    """`None` if fewer than 50 codewords are used, or with fewer than 10 different counts."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """The histograms of a network; `str()` of it is two tables."""

    name: str
    kernels: tuple[Histogram, ...]
    """One for each binary kernel."""
    together: tuple[Histogram, ...]
    """One for each shape of blocks, over all kernels cut into such blocks."""
    skipped: dict[str, str]
    """Names of what was left out, and why."""

    def as_dict(self) -> dict:
        """Returns everything as dicts, lists, numbers and strings, as JSON has them."""
        figures = asdict(self)
        pairs = zip(
            self.kernels + self.together, (*figures["kernels"], *figures["together"]), strict=True
        )
        for each, part in pairs:
            part["blocks"] = int(each.counts.sum())
            part["counts"] = each.counts.tolist()
            if each.power_law is not None:
                part["power_law"]["verdict"] = each.power_law.verdict
        return json.loads(json.dumps(figures))

    def __str__(self) -> str:
        rows = [["kernel", "block", "blocks", "bits", "never used", *map(_top_title, TOP), "pairs"]]
        fits = [["kernel", "slope", "alpha", "from", "codewords", "KS", "power law or another"]]
        for each in self.kernels + self.together:
            block = "×".join(str(size) for size in each.codeword_shape if size > 1)
            start = [each.name, block, f"{each.counts.sum():,}"]
            rows.append([*start, *_cells(each.figures)])
            rows.append(["  at random", "", "", *_cells(each.at_random)])
            fits.append([each.name, f"{each.figures.rank_slope:.2f}"])
            fits[-1] += _fit_cells(each.power_law)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        left_out = [f"left out ({reason}): {_names(each)}" for reason, each in reasons.items()]
        texts = [f"{self.name}\n{_table(rows)}", _table(fits, left=(0, 6)), "\n".join(left_out)]
        return "\n\n".join(filter(None, texts))


def analyze(model: tf.keras.Model) -> Analysis:
    """Measures how the binary kernels of a model use the sign patterns.

    Example:
        ```python
        print(sks.analysis.analyze(model))
        ```

    Arguments:
        model: A built Keras model, with Larq's quantizers or those of this library. It stays as it is.

    Returns:
        The figures of each kernel and of all together. A kernel is cut into the blocks of its
            `SparseKernelSign`, else into those of `larq_sks.codebook.default_codeword_shape`.

    Raises:
        ValueError: If the model has no binary kernel.
        ImportError: If `powerlaw` is not installed.
    """
    counted: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}
    skipped: dict[str, str] = {}
    for name, layer, role, attribute in _kernels(model):
        quantizer = getattr(layer, f"{role}_quantizer", None)
        if _calls.precision(quantizer) != 1:
            skipped[name] = "no binary kernel"
            continue
        used = use(layer, attribute, quantizer)
        if math.prod(used.codeword_shape) == 1:
            shape = "×".join(map(str, getattr(layer, attribute).shape))
            skipped[name] = f"no blocks for a kernel of {shape}"
            continue
        patterns = 2 ** math.prod(used.codeword_shape)
        counted[name] = used.codeword_shape, np.bincount(used.assigned, minlength=patterns)
    return _analyze(model.name, counted, skipped)


def analyze_kernels(
    name: str, kernels: Mapping[str, np.ndarray], skipped: Mapping[str, str] | None = None
) -> Analysis:
    """Measures how kernels that are no Keras model use the sign patterns.

    Example:
        ```python
        print(analyze_kernels("mine", {"conv1": kernel1, "conv2": kernel2}))
        ```

    Arguments:
        name: What to call them together.
        kernels: Latent or binary weights by name; 0 counts as +1.
        skipped: Names of what the caller left out, and why.

    Returns:
        The figures of each kernel and of all together.

    Raises:
        ValueError: If there is no kernel, or one cannot be cut into blocks.
        ImportError: If `powerlaw` is not installed.
    """
    counted = {
        each: (codebook.default_codeword_shape(np.shape(kernel)), histogram(kernel))
        for each, kernel in kernels.items()
    }
    return _analyze(name, counted, dict(skipped or {}))


def _kernels(model: tf.keras.Model) -> Iterator[tuple[str, tf.keras.layers.Layer, str, str]]:
    """Lists each kernel of a model once: its name, layer, role and the layer's attribute."""
    names: Counter[str] = Counter()
    seen: set[int] = set()
    for layer in model._flatten_layers():
        for role, attribute in ROLES.items():
            kernel = getattr(layer, attribute, None)
            if isinstance(kernel, tf.Variable) and id(kernel) not in seen:
                seen.add(id(kernel))
                yield kernel_name(layer, role, names), layer, role, attribute


def _analyze(
    name: str, counted: Mapping[str, tuple[tuple[int, ...], np.ndarray]], skipped: dict[str, str]
) -> Analysis:
    check_powerlaw()
    if not counted:
        raise ValueError(
            "There must be a binary kernel, such as that of a `QuantConv2D` with a `kernel_quantizer` of "
            f"1 bit. Received: {name}, which has none."
        )
    kernels = [_histogram(each, shape, counts) for each, (shape, counts) in counted.items()]
    sums: dict[tuple[int, ...], np.ndarray] = {}
    for shape, counts in counted.values():
        sums[shape] = sums.get(shape, 0) + counts
    together = [_histogram("all", shape, counts) for shape, counts in sums.items()]
    return Analysis(name, tuple(kernels), tuple(together), skipped)


def _histogram(name: str, codeword_shape: tuple[int, ...], counts: np.ndarray) -> Histogram:
    return Histogram(
        name,
        tuple(codeword_shape),
        counts,
        figures(counts),
        at_random(int(counts.sum()), len(counts)),
        power_law(counts),
    )


def _top_title(number: int) -> str:
    return f"top {number}"


def _cells(figures: Figures) -> list[str]:
    never = f"{figures.never_used:.0f}"
    shares = [*figures.top.values(), figures.opposite]
    return [f"{figures.entropy:.2f}", never, *(f"{share:.1%}" for share in shares)]


def _fit_cells(fit: PowerLaw | None) -> list[str]:
    if fit is None:
        return ["", "", "", "", "too few counts"]
    numbers = [f"{fit.alpha:.2f}", f"{fit.smallest:,}", str(fit.tail), f"{fit.distance:.3f}"]
    return [*numbers, fit.verdict]


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 7 else ""
    return ", ".join(names[:6] if more else names) + more


def _table(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    """Sets rows in columns, those of the numbers `left` to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            f"{cell:<{width}}" if number in left else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
