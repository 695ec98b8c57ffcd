"""From a trained binary network to n codewords a kernel, chosen from the trained kernels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks import codebook, selections
from larq_sks._checks import check_num_codewords
from larq_sks.convert.clone import QUANTIZERS, check_model, clone, layers_of, remake
from larq_sks.layers import ROLES, kernel_name
from larq_sks.quantizers import SparseKernelSign
from larq_sks.starts import STARTS


class LayerNamesError(ValueError):
    """Layers were named that cannot get codewords."""

    def __init__(self, complaint: str):
        super().__init__(f"`where` {complaint}")
        self.complaint = complaint
        """What is wrong with the names, for callers whose users know `where` by another name."""


@dataclass(frozen=True)
class KernelReport:
    """What `sparsify` did to one kernel."""

    name: str
    """Name of the layer, with the kernel's role where the layer has two, and numbered (`name#2`) where
    layers of nested models share one."""
    kernel_shape: tuple[int, ...]
    changed: bool
    reason: str
    """Why it was left alone, or what became of the gradient and the scale of its quantizer."""
    num_codewords: int | None = None
    """Number of codewords that it got; `None` if it was left alone."""
    signs_flipped: float = 0.0
    """Share of its signs, 0 to 1, that the choice of codewords turned round."""


@dataclass(frozen=True)
class SparsifyReport:
    """What `sparsify` did to each kernel of a model; `str()` of it is a table."""

    kernels: list[KernelReport]

    def __str__(self) -> str:
        rows = [("kernel", "shape", "codewords", "signs flipped", "what was done")]
        for kernel in self.kernels:
            shape = "×".join(map(str, kernel.kernel_shape))
            if kernel.changed:
                figures = (str(kernel.num_codewords), f"{kernel.signs_flipped:.1%}")
                rows.append((kernel.name, shape, *figures, kernel.reason))
            else:
                rows.append((kernel.name, shape, "", "", f"left alone: {kernel.reason}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}"
            for row in rows
        ]
        changed = sum(kernel.changed for kernel in self.kernels)
        return "\n".join([*lines, f"{changed} of {len(self.kernels)} kernels changed."])


def sparsify(
    model: tf.keras.Model,
    num_codewords: int = 32,
    selection="permutation",
    start: str | Callable | None = "coverage",
    where: Collection[str] | Callable | None = None,
) -> tf.keras.Model:
    """Gives the binary kernels of a trained Larq network n codewords each, ready to be fine-tuned.

    Only the kernel quantizers change, to `SparseKernelSign`; classes, names, latent weights, batch-norm
    statistics and all else stay. A quantizer is judged by what it computes: it must give the sign of
    each weight (+1 for 0) times one number above 0 for each channel of the kernel's last axis. Where
    that number is not 1, as in `magnitude_aware_sign`, it becomes the trainable `multiplier` of the new
    quantizer. Other kernels are left alone; `sparsify_report` of the result says so of each and why.
    With the whole codebook, such as 512 patterns of 3×3, the outputs are those of `model`.

    Example:
        ```python
        small = sks.sparsify(trained, 32)
        print(small.sparsify_report)
        ```

    Arguments:
        model: A functional or sequential model with weights. It is left alone.
        num_codewords: Number of codewords of each kernel, 1 or more. A kernel whose blocks have no more
            patterns than that gets its whole codebook.
        selection: Who chooses them later on: `"permutation"` (learned), `"fixed"`, or an object from
            `larq_sks.selections`, which is copied.
        start: The codewords to begin with, found in each latent kernel: `"coverage"`
            (`selections.greedy_coverage`), `"exchanged"` (`selections.exchanged_coverage`), `"frequent"`
            (`selections.most_frequent`), or a function of kernel, number of codewords and codeword shape
            that returns them as integers. `None`: the selection's own start.
        where: Which kernels: `None` for those of size 3×3, a list of layer names, or a function that
            takes a layer and returns whether its kernels are meant. Those of other sizes are cut into
            blocks as `larq_sks.codebook.default_codeword_shape` says.

    Returns:
        A new model, not compiled, with the attribute `sparsify_report`, a `SparsifyReport`.

    Raises:
        ValueError: If an argument is out of range; if a layer named in `where` cannot be changed, or no
            kernel at all; if a binary kernel is inside a wrapper; if two layers share a quantizer that
            has weights; if a layer cannot be made anew from its config.
    """
    check_model(model)
    check_num_codewords(num_codewords)
    if start is not None and not callable(start) and start not in STARTS:
        raise ValueError(
            f"`start` must be one of {tuple(STARTS)}, a function, or `None`. Received: start={start!r}."
        )
    if start is not None and getattr(selections.get(selection), "given", None) is not None:
        raise ValueError(
            "`start` must be `None` if the selection itself says which codewords to begin with. "
            f"Received: start={start!r} and a `{type(selection).__name__}` with codewords."
        )
    kernels = _kernels(model)
    wanted = _wanted(where, kernels)

    reports = []
    quantizers: dict[tf.keras.layers.Layer, dict[str, SparseKernelSign]] = {}
    for kernel in kernels:
        reason = _why_not(kernel, wanted)
        scale = None if reason else _scale(kernel)
        if scale is None:
            reason = reason or f"`{kernel.quantizer_name}` gives other values than a sign"
            reports.append(KernelReport(kernel.name, kernel.shape, False, reason))
            continue
        try:
            quantizer = _sparse_quantizer(kernel, scale, num_codewords, selection, start)
        except ValueError as error:
            raise ValueError(f"Layer '{kernel.name}': {error}") from error
        latent = kernel.latent()
        flipped = np.mean(quantizer.signs(tf.constant(latent)) != lq.math.sign(latent))
        reports.append(
            KernelReport(
                kernel.name,
                kernel.shape,
                True,
                _what_changed(kernel, scale, quantizer),
                quantizer.num_codewords,
                float(flipped),
            )
        )
        quantizers.setdefault(kernel.layer, {})[QUANTIZERS[kernel.weight]] = quantizer
    report = SparsifyReport(reports)

    changed = {layer.name for layer in quantizers}
    if isinstance(where, Collection) and not changed.issuperset(where):
        refused = "; ".join(
            f"'{report.name}': {report.reason}"
            for kernel, report in zip(kernels, reports, strict=True)
            if kernel.layer.name in where and kernel.layer.name not in changed
        )
        raise LayerNamesError(
            f"must list only layers with a kernel that can get codewords. Received: {refused}."
        )
    if not changed:
        counts = Counter(report.reason for report in reports)
        reasons = "; ".join(f"{count} of them: {reason}" for reason, count in counts.items())
        among = "" if where is None else ", among those that `where` means"
        raise ValueError(
            f"`model` must have a kernel that can get codewords{among}. "
            f"Received: model '{model.name}' with {len(reports)} kernels; {reasons}."
        )
    sparse, _ = clone(model, lambda layer: _with_quantizers(layer, quantizers.get(layer)))
    sparse.sparsify_report = report
    return sparse


@dataclass(frozen=True)
class _Kernel:
    name: str
    layer: tf.keras.layers.Layer
    weight: str

    @property
    def quantizer(self):
        return getattr(self.layer, QUANTIZERS[self.weight], None)

    @property
    def quantizer_name(self) -> str:
        return getattr(self.quantizer, "__name__", type(self.quantizer).__name__)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(getattr(self.layer, self.weight).shape)

    def latent(self) -> np.ndarray:
        with lq.context.quantized_scope(False):
            return getattr(self.layer, self.weight).numpy()


def _kernels(model) -> list[_Kernel]:
    """Lists every kernel of a model; raises if one is quantised where that cannot be changed."""
    found = []
    names: Counter[str] = Counter()
    owners: dict[int, str] = {}
    replaceable = set(layers_of(model))
    for layer in model._flatten_layers():
        for role, weight in ROLES.items():
            if not isinstance(getattr(layer, weight, None), tf.Variable):
                continue
            name = kernel_name(layer, role, names)
            kernel = _Kernel(name, layer, weight)
            if kernel.quantizer is not None and layer not in replaceable:
                raise ValueError(
                    f"The quantizer of layer '{name}' cannot be exchanged, because the layer is inside "
                    "another, such as a wrapper or a model that is neither functional nor sequential. "
                    "Use the layer without it."
                )
            if getattr(kernel.quantizer, "weights", None):
                owner = owners.setdefault(id(kernel.quantizer), name)
                if owner != name:
                    raise ValueError(
                        f"Layers '{owner}' and '{name}' share a quantizer that has weights, which their "
                        "copies could not. Give each layer its own."
                    )
            found.append(kernel)
    return found


def _wanted(where, kernels: list[_Kernel]) -> Callable[[_Kernel], bool]:
    if where is None:
        return _is_3x3
    if callable(where):
        return lambda kernel: where(kernel.layer)
    names = {kernel.layer.name for kernel in kernels}
    if isinstance(where, str) or not isinstance(where, Collection):
        raise ValueError(
            f"`where` must be `None`, a function, or a list of names of layers. Received: where={where!r}."
        )
    if unknown := [name for name in where if name not in names]:
        raise LayerNamesError(
            f"must list names of layers with a kernel, which are {sorted(names)}. "
            f"Received: {', '.join(map(repr, unknown))}."
        )
    return lambda kernel: kernel.layer.name in where


def _is_3x3(kernel: _Kernel) -> bool:
    return len(kernel.shape) == 4 and kernel.shape[:2] == (3, 3)


def _why_not(kernel: _Kernel, wanted: Callable[[_Kernel], bool]) -> str:
    """Says why a kernel is left alone whatever its quantizer computes, nothing if it is not."""
    if kernel.quantizer is None:
        return "float kernel"
    if isinstance(kernel.quantizer, SparseKernelSign):
        return f"has {kernel.quantizer.num_codewords} codewords already"
    if not wanted(kernel):
        return "not 3×3" if wanted is _is_3x3 else "not asked for"
    try:
        codebook.default_codeword_shape(kernel.shape)
    except ValueError:
        return "neither 3×3, nor does its last axis but one divide by 8"
    return ""


def _scale(kernel: _Kernel) -> np.ndarray | None:
    """Finds what the quantizer multiplies the sign by, in each channel of the last axis.

    Returns:
        Numbers of 0 or more, 0 only for channels that are 0 themselves; `None` if the quantizer
            does anything else.
    """
    dtype = kernel.layer.compute_dtype
    # The kernel alone may hide a ternary or multi-bit quantizer, whose steps its weights happen to miss.
    rng = np.random.default_rng(0)
    probe = rng.normal(size=kernel.shape) * 10 ** rng.uniform(-3, 1, kernel.shape)
    probe.flat[0], probe.flat[-1] = 0.0, -0.0
    quantizer = kernel.quantizer
    if isinstance(quantizer, tf.keras.layers.Layer):
        # A copy, because quantizers may keep statistics of what they quantise.
        quantizer = remake(quantizer, {})
        quantizer(tf.cast(probe, dtype))
        quantizer.set_weights(kernel.quantizer.get_weights())
    for weights, may_be_zero in ((probe, False), (kernel.latent(), True)):
        weights = tf.cast(weights, dtype)
        values = quantizer(weights)
        scale = tf.reduce_max(tf.abs(values), axis=list(range(len(kernel.shape) - 1)))
        is_sign = np.array_equal(values, scale * lq.math.sign(weights))
        if not is_sign or not (may_be_zero or np.all(scale > 0)):
            return None
    return scale.numpy()


def _what_changed(kernel: _Kernel, scale: np.ndarray, quantizer: SparseKernelSign) -> str:
    if not hasattr(kernel.quantizer, "clip_value"):
        what = f"gradient of `{kernel.quantizer_name}` replaced by the straight-through one, clipped at 1"
    elif kernel.quantizer.clip_value is None:
        what = "gradient not clipped"
    else:
        what = f"gradient clipped at {kernel.quantizer.clip_value:g}"
    if np.any(scale != 1):
        what += f"; multiplier of {scale.min():.3g} to {scale.max():.3g} a channel"
    if quantizer.num_codewords == 2 ** math.prod(quantizer.block_shape):
        what += "; all patterns, so the kernel computes as before"
    return what


def _sparse_quantizer(kernel, scale, num_codewords, selection, start) -> SparseKernelSign:
    shape = codebook.default_codeword_shape(kernel.shape)
    quantizer = SparseKernelSign(
        min(num_codewords, 2 ** math.prod(shape)),
        selection,
        clip_value=getattr(kernel.quantizer, "clip_value", 1.0),
        scale=bool(np.any(scale != 1)),
    )
    with tf.name_scope(quantizer.name):
        quantizer.build(kernel.shape)
    if quantizer.scale:
        quantizer.multiplier.assign(scale)
    if start is not None and quantizer.uses_selection:
        choose = start if callable(start) else STARTS[start]
        quantizer.selection.start_from(choose(kernel.latent(), quantizer.num_codewords, shape))
    return quantizer


def _with_quantizers(layer, quantizers: dict[str, SparseKernelSign] | None):
    if quantizers is None:
        return None
    new = remake(layer, quantizers)
    for name, quantizer in quantizers.items():
        if getattr(new, name, None) is not quantizer:
            raise ValueError(
                f"Layer '{layer.name}' of class `{type(layer).__name__}` does not take another "
                f"quantizer. Received: {getattr(new, name, None)!r} where it was given a "
                f"`SparseKernelSign`. Let its constructor pass on `{name}`."
            )
    return new
