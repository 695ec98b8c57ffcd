"""Models over all options, drawn at random: equal to Larq Compute Engine's reference, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from interpreters import ISAS, LCE, STOCK, Ours, lce
from tflite_file import SAME, VALID, File, conv_model, conv_options, output_size, words

needs_lce = pytest.mark.skipif(LCE is None, reason="larq-compute-engine is not installed")


@st.composite
def convolutions(draw):
    """The arguments of a model, and images for it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = draw(st.integers(1, 140)) if groups == 1 else 32 * groups * draw(st.integers(1, 2))
    out = groups * draw(st.integers(1, 140 // groups))
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (3, 3), (1, 1), (5, 5), (2, 3), (7, 1)]))
    options = conv_options(
        channels,
        padding=draw(st.sampled_from([SAME, VALID])),
        pad_values=draw(st.integers(0, 1)),
        stride_height=draw(st.sampled_from([1, 1, 2, 3])),
        stride_width=draw(st.sampled_from([1, 1, 2, 3])),
        dilation_height_factor=draw(st.sampled_from([1, 1, 2, 3])),
        dilation_width_factor=draw(st.sampled_from([1, 1, 2, 3])),
        fused_activation_function=draw(st.integers(0, 3)),
    )
    least = [1, 1]
    if options["padding"] == VALID:
        least = [
            (size - 1) * options[f"dilation_{axis}_factor"] + 1
            for size, axis in zip(kernel, ("height", "width"))
        ]
    height, width = (low + draw(st.integers(0, 12)) for low in least)
    images = rng.normal(size=(draw(st.integers(1, 3)), height, width, channels)).astype(np.float32)
    images[rng.random(images.shape) < 0.05] = draw(st.sampled_from([0.0, -0.0, np.nan, np.inf]))
    weights = kernel[0] * kernel[1] * channels // groups
    codewords = draw(st.sampled_from([1, 8, 16, 17, 32, 33, 64, 512]))
    patterns = rng.choice([-1.0, 1.0], (codewords, *kernel))
    signs = patterns[rng.integers(codewords, size=(out, channels // groups))].transpose(0, 2, 3, 1)
    model = {
        "signs": signs,
        "groups": groups,
        "output": draw(st.sampled_from(["float32", "int8", "bits"])),
        "multiplier": rng.normal(size=out) * draw(st.sampled_from([1e-3, 1.0, 100.0])),
        "bias": rng.normal(size=out) * 3,
        "thresholds": rng.integers(-2, weights + 3, out),
        "scale": draw(st.sampled_from([0.02, 0.5, 7.0])),
        "zero_point": draw(st.integers(-128, 127)),
    }
    if draw(st.booleans()):
        model["thresholds"][rng.integers(out)] = draw(st.sampled_from([-(2**31), 2**31 - 1]))
    return model, options, images


@st.composite
def delegates(draw):
    """How to run a model."""
    return {
        "isa": draw(st.sampled_from(ISAS)),
        "kernel": draw(st.sampled_from(["auto", "classic", "shared"])),
        "threads": draw(st.integers(1, 3)),
        "stock": draw(st.sampled_from(sorted(STOCK))),
    }


def _reference_runs(options: dict, output: str) -> bool:
    """LCE's reference kernel refuses to pad an odd number of channels with zeros. With packed outputs and
    zeros it reads a multiplier that is not there, and crashes."""
    zeros = options["padding"] == SAME and options["pad_values"] == 0
    return not (zeros and (options["channels_in"] % 2 or output == "bits"))


def _check(case, delegate):
    model, options, images = case
    data = conv_model(
        image=(1, *images.shape[1:]),
        **model,
        **{k: v for k, v in options.items() if k != "channels_in"},
    )
    ours = Ours(data, **delegate)
    (got,) = ours(images)
    wanted = oracle.conv(images, options=options, **model)
    np.testing.assert_array_equal(got, wanted, strict=True)
    if LCE is not None and _reference_runs(options, model["output"]):
        np.testing.assert_array_equal(got, lce(data, images)[0], strict=True)
    # One at a time again, by the same interpreter.
    np.testing.assert_array_equal(ours(images[-1:])[0], wanted[-1:])


@settings(max_examples=150)
@given(convolutions(), delegates())
def test_convolutions(case, delegate):
    _check(case, delegate)


@pytest.mark.slow
@settings(max_examples=5000, derandomize=False)
@given(convolutions(), delegates())
def test_many_convolutions(case, delegate):
    _check(case, delegate)


@settings(max_examples=60)
@given(convolutions(), delegates(), st.data())
def test_compact_convolutions(case, delegate, data):
    model, options, images = case
    _, height, width, channels = model["signs"].shape
    blocks = [
        (h, w, c)
        for h in range(1, height + 1)
        for w in range(1, width + 1)
        for c in (1, 2, 3, 4, 8, 16)
        if h * w * c <= 16 and height % h == 0 and width % w == 0 and channels % c == 0
    ]
    inverted = np.random.default_rng(0).random(len(model["signs"])) < 0.5
    compact = {
        "block": data.draw(st.sampled_from(blocks)),
        "inverted": data.draw(st.sampled_from([None, inverted])),
    }
    file = conv_model(
        image=images.shape,
        compact=compact,
        **model,
        **{k: v for k, v in options.items() if k != "channels_in"},
    )
    (got,) = Ours(file, **delegate)(images)
    np.testing.assert_array_equal(got, oracle.conv(images, options=options, **model), strict=True)


@needs_lce
@settings(max_examples=30)
@given(convolutions())
def test_fast_kernels_of_lce(case):
    # They correct the padding with zeros in float, and wrongly where the image is smaller than the filter.
    model, options, images = case
    options["pad_values"] = 1
    data = conv_model(
        image=(1, *images.shape[1:]),
        **model,
        **{k: v for k, v in options.items() if k != "channels_in"},
    )
    got = Ours(data)(images)[0]
    np.testing.assert_array_equal(got, lce(data, images, use_indirect_bgemm=True)[0])
    if model["groups"] == 1:  # else LCE refuses
        np.testing.assert_array_equal(got, lce(data, images, use_indirect_bgemm=False)[0])


def _quantize_model(
    shape, dtype, out_dtype, scale, zero_point, out_scale, out_zero_point, pool=None
):
    file = File()
    quantization = {"scale": scale, "zero_point": zero_point} if dtype == np.int8 else {}
    values = file.tensor(shape, dtype, **quantization)
    bits = file.tensor((*shape[:-1], words(shape[-1])), np.int32)
    file.op("LceQuantize", [values], bits)
    if pool:
        shape = (
            shape[0],
            *output_size(shape[1:3], (pool["filter_height"], pool["filter_width"]), pool),
            shape[3],
        )
        pooled = file.tensor((*shape[:3], words(shape[3])), np.int32)
        file.op("LceBMaxPool2d", [bits], pooled, pool)
        bits = pooled
    quantization = (
        {"scale": out_scale, "zero_point": out_zero_point} if out_dtype == np.int8 else {}
    )
    result = file.tensor(shape, out_dtype, **quantization)
    file.op("LceDequantize", [bits], result)
    return file.finish([values], [result])


def _values(rng, shape, dtype):
    if dtype == np.float32:
        # No denormals: LCE's interpreter has the processor take them for 0, stock ones do not.
        return rng.choice(
            np.array([-2, -1e-37, -0.0, 0, 1e-37, 3, np.nan, -np.inf], np.float32), shape
        )
    if dtype == np.int8:
        return rng.integers(-128, 128, shape).astype(np.int8)
    return rng.random(shape) < 0.5


_TYPES = st.sampled_from([np.float32, np.int8, np.bool_])


@needs_lce
@settings(max_examples=80)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5), min_size=0, max_size=4),
    st.integers(1, 100),
    _TYPES,
    _TYPES,
    st.sampled_from([0.001, 0.0079, 0.3, 1.0, 5.0]),
    st.integers(-128, 127),
    delegates(),
)
def test_quantize_and_dequantize(
    seed, outer, channels, dtype, out_dtype, scale, zero_point, delegate
):
    shape = (1, *outer, channels)
    data = _quantize_model(shape, dtype, out_dtype, 0.1, zero_point, scale, -zero_point // 2)
    values = _values(np.random.default_rng(seed), shape, dtype)
    np.testing.assert_array_equal(
        Ours(data, **delegate)(values)[0], lce(data, values)[0], strict=True
    )


def test_quantize_by_several_threads():
    shape = (1, 67, 61, 70)  # too many numbers for one thread, and rows that end within a word
    data = _quantize_model(shape, np.float32, np.float32, 0, 0, 0, 0)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(Ours(data, threads=3)(values)[0], np.where(values < 0, -1, 1))


@needs_lce
@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 70)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([SAME, VALID]),
    delegates(),
)
def test_max_pool(seed, image, window, padding, delegate):
    pool = dict(
        zip(("filter_height", "filter_width", "stride_height", "stride_width"), window),
        padding=padding,
    )
    if padding == VALID:
        image = (max(image[0], window[0]), max(image[1], window[1]), image[2])
    data = _quantize_model((1, *image), np.float32, np.float32, 0, 0, 0, 0, pool)
    values = np.random.default_rng(seed).normal(size=(2, *image)).astype(np.float32)
    np.testing.assert_array_equal(
        Ours(data, **delegate)(values)[0], lce(data, values)[0], strict=True
    )
