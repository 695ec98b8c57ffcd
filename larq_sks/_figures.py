"""The figures of a model, layer by layer: dataclasses, and how they are found."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from larq_sks import _calls, accounting, codebook
from larq_sks.layers import ROLES, SparseKernel, kernel_name
from larq_sks.quantizers import SparseKernelSign
from larq_sks.selections import Selection


@dataclass(frozen=True)
class Cost:
    """What a binary kernel, or all of a model, takes. Operations are `None` where a shape is unknown."""

    bits: float
    """Size of the kernels, log2(n) bits a block."""
    codebook_bits: int
    """Size of the lists of selected codewords."""
    bit_operations: float | None
    """Bit-operations by the published convention, see `larq_sks.accounting.bit_operations`."""
    correlations: int | None
    """Correlations of a slice of input with a codeword that differ from each other."""
    additions: int | None
    """Additions of a correlation's result to an output."""


@dataclass(frozen=True)
class KernelSummary:
    """The figures of one kernel."""

    name: str
    """As `larq_sks.codewords` names it."""
    shape: tuple[int, ...]
    input_bits: int | None
    """Precision of what the kernel is applied to, or `None` for floats."""
    codeword_shape: tuple[int, ...] | None
    """The block's size along each axis of a binary kernel; `None` for any other kernel."""
    codewords: int | None
    """Number n of codewords that a binary kernel may use; `None` for any other kernel."""
    bits_per_weight: float
    cost: Cost
    at_one_bit: Cost
    """What it takes if it is binary with one bit a weight, every correlation computed for itself."""
    entropy_bits: float | None
    """Size of a binary kernel if its codewords are coded by how often each is used."""
    file_bits: float
    """Expected size in a `.sks` file, codebook included."""
    macs: int | None
    """Multiply-accumulates, unless kernel and inputs both are binary; `None` where a shape is unknown."""


@dataclass(frozen=True)
class LayerSummary:
    """The figures of one layer."""

    name: str
    kind: str
    """Name of the layer's class."""
    output_shapes: tuple[tuple[int | None, ...], ...]
    """The shape of each output of each call; without any if the model does not record it."""
    kernels: tuple[KernelSummary, ...]
    other_weights: int
    """Number of weights that are no kernels: biases, multipliers of kernels, batch-norm statistics."""
    other_bits: int
    """Size of these."""


@dataclass(frozen=True, repr=False)
class Summary:
    """The figures of a model."""

    name: str
    layers: tuple[LayerSummary, ...]
    cost: Cost
    """All binary kernels together."""
    at_one_bit: Cost
    entropy_bits: float
    """Size of the binary kernels if their codewords are coded by how often each is used."""
    other_bits: int
    """Size of all other weights, kernels that are not binary among them."""
    bits: float
    """Size of the whole model: binary kernels, codebooks, other weights."""
    bits_at_one_bit: float
    """Size of the whole model if its binary kernels take one bit a weight."""
    float32_bits: int
    """Size of the whole model if each weight takes 32 bits."""
    file_bytes: int
    """Expected size of the `.sks` file, without its description of the architecture and before its other
    weights are compressed, by a sixth or so."""
    macs: int | None
    """Multiply-accumulates other than those counted in `cost`."""

    def __repr__(self) -> str:
        # In a notebook all figures would bury the tables that were printed.
        return f"<Summary of '{self.name}': {len(self.layers)} layers, {self.bits / 8:,.0f} bytes>"

    def as_dict(self) -> dict:
        """Returns all figures as dicts, lists, numbers and strings, as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def measure(model: tf.keras.Model) -> Summary:
    """Finds all figures of a built model, which stays as it is."""
    calls = _calls.recorded(model)
    names: Counter[str] = Counter()
    counted: set[int] = set()
    layers = [_layer(layer, calls, names, counted) for layer in _calls.leaves(model)]
    number, bits = _size(model.weights, counted)
    if number:  # the model's own, besides those of its layers
        layers.append(LayerSummary(model.name, type(model).__name__, (), (), number, bits))

    kernels = [kernel for layer in layers for kernel in layer.kernels]
    binary = [kernel for kernel in kernels if kernel.codewords is not None]
    cost = _total(kernel.cost for kernel in binary)
    at_one_bit = _total(kernel.at_one_bit for kernel in binary)
    rest = sum(layer.other_bits for layer in layers)
    other = rest + sum(int(kernel.cost.bits) for kernel in kernels if kernel.codewords is None)
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    return Summary(
        name=model.name,
        layers=tuple(layers),
        cost=cost,
        at_one_bit=at_one_bit,
        entropy_bits=sum(kernel.entropy_bits or 0.0 for kernel in binary),
        other_bits=other,
        bits=cost.bits + cost.codebook_bits + other,
        bits_at_one_bit=at_one_bit.bits + other,
        float32_bits=32 * (weights + sum(layer.other_weights for layer in layers)),
        file_bytes=math.ceil((sum(kernel.file_bits for kernel in kernels) + rest) / 8),
        macs=_sum(kernel.macs for kernel in kernels),
    )


def _sum(numbers: Iterable):
    """Adds numbers up; one that is unknown makes the sum unknown."""
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


def _total(costs: Iterable[Cost]) -> Cost:
    costs = list(costs)
    names = [field.name for field in dataclasses.fields(Cost)]
    return Cost(**{name: _sum(getattr(cost, name) for cost in costs) for name in names})


def _size(weights: Iterable[tf.Variable], counted: set[int]) -> tuple[int, int]:
    """Returns number and bits of the weights whose ids are not in `counted`, and puts them there."""
    new = {id(weight): weight for weight in weights if id(weight) not in counted}.values()
    counted.update(map(id, new))
    sizes = [(weight.shape.num_elements(), weight.dtype.size * 8) for weight in new]
    return sum(number for number, _ in sizes), sum(number * bits for number, bits in sizes)


def _layer(
    layer: tf.keras.layers.Layer,
    calls: dict[int, list[_calls.Call]],
    names: Counter[str],
    counted: set[int],
) -> LayerSummary:
    kernels = []
    multipliers = 0
    for part in layer._flatten_layers():  # a wrapper's kernel is that of a layer in it
        if isinstance(part, (Selection, tf.keras.metrics.Metric)):
            # The codebook is counted with its kernel; all else that they hold is for training.
            counted.update(map(id, part.weights))
        for role, attribute in ROLES.items():
            kernel = getattr(part, attribute, None)
            if not isinstance(kernel, tf.Variable) or id(kernel) in counted:
                continue
            counted.add(id(kernel))
            name = kernel_name(part, role, names)
            quantizer = getattr(part, f"{role}_quantizer", None)
            figures, scales = _kernel(name, part, attribute, quantizer, calls.get(id(part)))
            kernels.append(figures)
            multipliers += scales
    number, bits = _size(layer.weights, counted)
    shapes = [shape for call in calls.get(id(layer), []) for shape in call.outputs if shape]
    return LayerSummary(
        name=layer.name,
        kind=type(layer).__name__,
        output_shapes=tuple(shapes),
        kernels=tuple(kernels),
        other_weights=number + multipliers,
        other_bits=bits + 32 * multipliers,
    )


def _kernel(
    name: str,
    layer: tf.keras.layers.Layer,
    attribute: str,
    quantizer,
    calls: list[_calls.Call] | None,
) -> tuple[KernelSummary, int]:
    """Returns a kernel's figures and the number of multipliers that its quantizer computes."""
    kernel = getattr(layer, attribute)
    shape, weights, dtype_bits = tuple(kernel.shape), math.prod(kernel.shape), kernel.dtype.size * 8
    positions = _calls.positions(layer, calls)
    input_bits = _calls.input_bits(layer, attribute, calls)
    precision = _calls.precision(quantizer)

    def times(count, positions):
        return None if positions is None else count * positions

    if precision != 1:
        cost = Cost(weights * (precision or dtype_bits), 0, 0, 0, 0)
        figures = KernelSummary(
            name=name,
            shape=shape,
            input_bits=input_bits,
            codeword_shape=None,
            codewords=None,
            bits_per_weight=precision or dtype_bits,
            cost=cost,
            at_one_bit=cost,
            entropy_bits=None,
            file_bits=weights * dtype_bits,
            macs=times(weights, positions),
        )
        return figures, 0

    used = use(layer, attribute, quantizer)
    blocks = accounting.blocks_of(
        shape,
        used.codeword_shape,
        _calls.kind(layer, attribute),
        getattr(layer, "groups", 1),
        getattr(layer, "strides", ()),
    )
    # Bit-operations are those of bits with bits; all others are multiply-accumulates.
    binary, other = (positions, 0) if input_bits == 1 else (0, positions)
    additions = times(blocks.count * blocks.outputs, binary)
    cost = Cost(
        bits=accounting.index_bits(used.num_codewords, blocks.count),
        codebook_bits=accounting.codebook_bits(used.num_codewords, blocks.size),
        bit_operations=times(
            accounting.bit_operations(
                used.num_codewords, 1, blocks.slices, blocks.columns, blocks.size, blocks.outputs
            ),
            binary,
        ),
        correlations=times(blocks.distinct(used.assigned), binary),
        additions=additions,
    )
    at_one_bit = Cost(
        bits=weights,
        codebook_bits=0,
        bit_operations=times(weights, binary),
        correlations=times(blocks.count, binary),
        additions=additions,
    )
    counts = np.bincount(used.assigned)
    file_bits = accounting.stored_bits(used.num_codewords, counts) + cost.codebook_bits
    figures = KernelSummary(
        name=name,
        shape=shape,
        input_bits=input_bits,
        codeword_shape=used.codeword_shape,
        codewords=used.num_codewords,
        bits_per_weight=cost.bits / weights,
        cost=cost,
        at_one_bit=at_one_bit,
        entropy_bits=blocks.count * accounting.entropy(counts),
        file_bits=file_bits if used.signs else weights * dtype_bits,
        macs=times(weights, other),
    )
    return figures, used.multipliers


class Use(NamedTuple):
    """How a binary kernel uses its codewords."""

    codeword_shape: tuple[int, ...]
    num_codewords: int
    assigned: np.ndarray
    """The codeword of each block."""
    multipliers: int = 0
    """How many multipliers the quantizer computes."""
    signs: bool = True
    """Whether the weights are -1 and +1, but for multipliers."""


def use(layer, attribute: str, quantizer) -> Use:
    """Finds which codeword each block of a kernel is, whatever quantises it."""
    if isinstance(quantizer, SparseKernelSign):
        assigned = SparseKernel("", layer, attribute, quantizer).assigned()
        return Use(quantizer.block_shape, len(quantizer.selected()), assigned)
    kernel = getattr(layer, attribute)
    if hasattr(quantizer, "flip_ratio"):  # Larq's metric, which a call would change
        quantizer = type(quantizer).from_config(quantizer.get_config())
    values = np.asarray(quantizer(tf.constant(kernel.numpy())), np.float32)
    try:
        codeword_shape = codebook.default_codeword_shape(values.shape)
    except ValueError:  # then each weight is a block
        codeword_shape = (1,) * values.ndim
    blocks = codebook.to_blocks(tf.constant(np.where(values > 0, 1.0, -1.0)), codeword_shape)
    sizes = np.abs(values).reshape(-1, values.shape[-1])
    # Such as those of `magnitude_aware_sign`: weights of one size in each channel.
    signs = bool((sizes == sizes[0]).all())
    return Use(
        codeword_shape,
        2 ** math.prod(codeword_shape),
        codebook.to_codewords(blocks.numpy().T),
        values.shape[-1] if signs and (sizes[0] != 1.0).any() else 0,
        signs,
    )
