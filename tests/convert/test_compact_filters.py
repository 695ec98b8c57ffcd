"""Sub-bit filters in .tflite files. That they run, and give the same, is tested in runtime/."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import larq_sks_zoo as zoo
from larq_sks.convert import tflite_file, to_tflite
from larq_sks.convert.compact_filters import COMPACT, compacted, decode, encode


def negative_filter(shape, codewords, seed):
    """A filter of blocks that are drawn from some codewords, 8 channels of 1×1 or one channel of a window."""
    out, height, width, channels = shape
    rng = np.random.default_rng(seed)
    size = height * width if height * width > 1 else 8
    book = rng.random((codewords, size)) < 0.5
    blocks = book[rng.integers(codewords, size=(out, height * width * channels // size))]
    if height * width == 1:
        return blocks.reshape(shape)
    return blocks.reshape(out, channels, height, width).transpose(0, 2, 3, 1)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 9),
    st.sampled_from(
        [(3, 3, 1), (3, 3, 40), (2, 5, 7), (1, 4, 3), (4, 4, 2), (1, 1, 8), (1, 1, 64)]
    ),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_what_is_encoded_is_decoded(out, window, codewords, seed):
    shape = (out, *window)
    negative = negative_filter(shape, codewords, seed)
    inverted = np.random.default_rng(seed).random(out) < 0.5
    filter = encode(negative ^ inverted[:, None, None, None], inverted)
    np.testing.assert_array_equal(decode(filter, shape), negative ^ inverted[:, None, None, None])
    number = len(filter.codebook)
    assert number == len(np.unique(filter.codebook, axis=0)) <= codewords
    bits = max(1, math.ceil(math.log2(number)))
    assert filter.indices.size == math.ceil(negative.size / math.prod(filter.block) * bits / 8)
    assert (filter.inverted is None) == (not inverted.any())


def test_the_layout_is_that_of_the_format():
    # Two output channels of one 1×2 window with two input channels, by hand.
    negative = np.array([[[[1, 0], [0, 0]]], [[[0, 1], [1, 1]]]], bool)
    filter = encode(negative, np.zeros(2, bool))
    # Blocks, first weight lowest: channel 0 is 1,0 then 0,0; channel 1 is 0,1 then 1,1.
    assert filter.codebook.tolist() == [[0b00], [0b01], [0b10], [0b11]]
    assert filter.indices.tolist() == [0b11_10_00_01]
    assert filter.block == (1, 2, 1)


@pytest.mark.parametrize("window", [(5, 5, 3), (1, 1, 12)])
def test_filters_without_blocks_are_left_alone(window):
    assert encode(np.zeros((4, *window), bool), np.zeros(4, bool)) is None


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A sub-bit network of the zoo as two files, with what `to_tflite` says of them."""
    pytest.importorskip("larq_compute_engine", reason="has no release for this Python")
    folder = tmp_path_factory.mktemp("files")
    model = zoo.ResNet20(num_codewords=32, weights="cifar10")
    paths = folder / "lce.tflite", folder / "compact.tflite"
    reports = [to_tflite(model, path, compact=path is paths[1]) for path in paths]
    return paths, reports


def test_filters_take_the_bits_of_their_codewords(files):
    (full, compact), (before, after) = files
    layers = [layer for layer in after.layers if layer.became == COMPACT]
    assert len(layers) == 18 == before.ops["LceBconv2d"] == after.ops[COMPACT]
    assert tflite_file.read(compact.read_bytes()).binary == []
    weights = 16 * 16 * 9 * 6 + (16 + 32 * 5) * 32 * 9 + (32 + 64 * 5) * 64 * 9
    saved = weights / 8 * (1 - 5 / 9) - 18 * 32 * 2
    # Options and tables of two more tensors a filter, some hundred bytes, come on top.
    assert saved - 18 * 200 < before.size - after.size <= saved
    assert (before.size, after.size) == (full.stat().st_size, compact.stat().st_size)


def test_a_filter_of_no_known_kernel_is_taken_as_it_stands(files):
    (full, compact), _ = files
    # In this network no channel is turned round.
    assert compacted(full.read_bytes(), []) == compact.read_bytes()


def test_lce_says_that_it_cannot_run_a_compact_file(files, capfd):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    with pytest.raises(RuntimeError):
        Interpreter(files[0][1].read_bytes())
    assert f"unresolved custom op: {COMPACT}" in capfd.readouterr().err


def test_what_would_not_become_smaller_keeps_its_bits(files, tmp_path):
    report = to_tflite(zoo.ResNet8(), tmp_path / "net.tflite", compact=True)
    became = {layer.name: layer.became for layer in report.layers}
    # Random kernels use most of the 512 patterns, so a number takes 9 bits. (Where 48 channels fill one and a
    # half words, that is still less than whole words.)
    assert became["stage1_1_conv"] == became["stage3_2_conv"] == "LceBconv2d"
