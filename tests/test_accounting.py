import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from larq_sks import accounting

# Of the sixteen 3×3 convolutions of ResNet-18 at 224×224: size of the output, input and output channels.
RESNET18 = [(56, 64, 64)] * 4
for size, channels in ((28, 128), (14, 256), (7, 512)):
    RESNET18 += [(size, channels // 2, channels)] + [(size, channels, channels)] * 3


@pytest.mark.parametrize(
    "num_codewords, megabits, giga_operations",
    [(512, "10.99", 1.677), (64, "7.324", 0.883), (32, "6.103", 0.501), (16, "4.882", 0.297)],
)
def test_the_published_rows(num_codewords, megabits, giga_operations):
    bits = sum(accounting.index_bits(num_codewords, cin * cout) for _, cin, cout in RESNET18)
    digits = len(megabits) - megabits.index(".") - 1
    assert f"{bits / 1e6:.{digits}f}" == megabits
    operations = sum(
        accounting.bit_operations(num_codewords, size * size, cin, cout)
        for size, cin, cout in RESNET18
    )
    assert abs(operations / 1e9 - giga_operations) <= 0.001


def test_bit_operations_at_the_border():
    """With n = cout the 1-bit count holds; one codeword fewer, and the additions count."""
    assert accounting.bit_operations(64, 10, 3, 64) == 10 * 3 * 9 * 64
    assert accounting.bit_operations(63, 10, 3, 64) == 10 * 3 * (9 * 63 + 32)
    assert accounting.bit_operations(4, 1, 1, 5, block_size=8, outputs=3) == 32 + 7.5


def test_codebook_bits():
    assert accounting.codebook_bits(32) == 288
    assert accounting.codebook_bits(511) == 511 * 9
    assert accounting.codebook_bits(512) == 0  # nothing to tell
    assert accounting.codebook_bits(5, block_size=4) == 20


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_entropy(counts):
    expected = stats.entropy(counts, base=2)
    np.testing.assert_allclose(accounting.entropy(np.array(counts)), expected, atol=1e-12)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8), st.data())
def test_stored_bits_are_those_of_estimates_made_on_the_way(symbols, data):
    n = data.draw(st.integers(9, 20))
    seen = np.zeros(n)
    bits = 0.0
    for symbol in symbols:
        bits -= math.log2((seen[symbol] + 0.5) / (seen.sum() + n / 2))
        seen[symbol] += 1
    expected = min(bits, len(symbols) * math.ceil(math.log2(n)))
    counts = np.bincount(symbols)
    np.testing.assert_allclose(accounting.stored_bits(n, counts), expected, rtol=1e-9)


def test_stored_bits_never_exceed_packed_indices():
    assert accounting.stored_bits(32, np.full(32, 10)) == 320 * 5
    assert accounting.stored_bits(24, np.full(24, 1)) == 24 * 5
    assert accounting.stored_bits(32, np.array([9000, 1000])) < 0.5 * 10000
    assert accounting.stored_bits(1, np.array([7])) == 0


@st.composite
def kernels(draw):
    """A kernel, its codeword shape, its kind, groups and strides, and the codewords of its blocks."""
    kind = draw(st.sampled_from(["plain", "depthwise", "transposed"]))
    part = tuple(draw(st.integers(1, 2)) for _ in range(4))
    grid = tuple(draw(st.integers(1, 3)) for _ in range(4))
    groups = draw(st.integers(1, 3)) if kind == "plain" else 1
    shape = tuple(a * b for a, b in zip(part, grid))
    if shape[3] % groups:
        groups = 1
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    codewords = draw(
        st.lists(st.integers(0, 3), min_size=math.prod(grid), max_size=math.prod(grid))
    )
    return shape, part, grid, kind, groups, strides, np.array(codewords)


def weights_of_blocks(shape, part):
    """Lists for each block, in row-major order, the positions of its weights in the kernel."""
    grid = [size // step for size, step in zip(shape, part)]
    for corner in itertools.product(*map(range, grid)):
        ranges = [range(c * p, c * p + p) for c, p in zip(corner, part)]
        yield list(itertools.product(*ranges))


@settings(max_examples=200)
@given(kernels())
def test_blocks_share_correlations_where_they_see_the_same_input(kernel):
    """Against a list of what each weight reads and where its product goes."""
    shape, part, grid, kind, groups, strides, codewords = kernel
    blocks = accounting.blocks_of(shape, part, kind, groups, strides)
    pairs, slices, outputs = set(), set(), set()
    for block, weights in enumerate(weights_of_blocks(shape, part)):
        reads = []
        for y, x, third, fourth in weights:
            if kind == "plain":
                group = fourth // (shape[3] // groups)
                reads.append((y, x, group, third))
                target = (block, fourth)
            elif kind == "depthwise":
                reads.append((y, x, third))
                target = (block, third, fourth)
            else:  # kernels (height, width, channels out, channels in)
                reads.append((y, x, fourth))
                # Outputs at the same place modulo the stride are one and the same, further on. A block
                # starts where it starts, so that it meets that many places.
                tap = (y - weights[0][0]) % strides[0], (x - weights[0][1]) % strides[1]
                target = (block, third, *tap)
            outputs.add(target)
        spans = kind == "plain" and len({read[2] for read in reads}) > 1
        where = (tuple(sorted(set(reads))), block if spans else None)
        slices.add(where)
        pairs.add((where, codewords[block]))
    assert blocks.grid == grid and blocks.count == len(codewords)
    assert blocks.outputs * blocks.count == len(outputs)
    if kind != "plain" or (shape[3] // groups) % part[3] == 0:
        assert blocks.slices == len(slices)
        assert blocks.distinct(codewords) == len(pairs)
    else:  # groups and blocks do not match: nothing is shared, which is never too few
        assert blocks.slices == blocks.distinct(codewords) == blocks.count >= len(pairs)
