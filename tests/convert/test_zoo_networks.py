"""Every architecture of larq_zoo: which kernels get codewords, which are left alone, and why."""

import re
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from larq_zoo import literature, sota

from larq_sks.convert import sparsify

FLOAT, SIZE = "float kernel", "not 3×3"
ALL = "; all patterns, so the kernel computes as before"
CLIP_1, CLIP_125, CLIP_13 = (f"gradient clipped at {clip}" for clip in ("1", "1.25", "1.3"))
SCALED = "; multiplier of # to # a channel"
REPLACED = "gradient of `{}` replaced by the straight-through one, clipped at 1" + SCALED
DOREFA = REPLACED.format("magnitude_aware_sign_unclipped")
XNOR = REPLACED.format("xnor_weight_scale")

# For each network: its smallest image; how many kernels were changed and left alone, by reason; and some by
# name. The 3×3 kernels that are left alone are stems, shortcuts and depthwise blurs in float.
NETWORKS = {
    "QuickNetSmall": (32, {CLIP_125: 16}, {FLOAT: 10}, {"quant_depthwise_conv2d": FLOAT, "quant_conv2d_2": CLIP_125}),
    "QuickNet": (32, {CLIP_125: 16}, {FLOAT: 10}, {"quant_conv2d": FLOAT, "quant_conv2d_20": CLIP_125, "quant_dense": FLOAT}),
    "QuickNetLarge": (32, {CLIP_125: 32}, {FLOAT: 10}, {"depthwise_conv2d": FLOAT}),
    "BiRealNet": (32, {CLIP_1 + SCALED: 16}, {FLOAT: 5}, {"conv2d": FLOAT, "quant_conv2d": CLIP_1 + SCALED}),
    "BinaryAlexNet": (64, {CLIP_1: 3}, {SIZE: 5}, {"quant_conv2d": SIZE, "quant_conv2d_2": CLIP_1}),
    "BinaryDenseNet28": (32, {CLIP_13: 23}, {FLOAT: 5}, {}),
    "BinaryDenseNet37": (32, {CLIP_13: 32}, {FLOAT: 5}, {}),
    "BinaryDenseNet37Dilated": (32, {CLIP_13: 32}, {FLOAT: 5}, {}),
    "BinaryDenseNet45": (32, {CLIP_13: 40}, {FLOAT: 5}, {}),
    "BinaryResNetE18": (32, {CLIP_125: 16}, {FLOAT: 5}, {}),
    "DoReFaNet": (64, {DOREFA: 3}, {FLOAT: 2, SIZE: 3}, {"quant_conv2d": SIZE, "quant_dense": SIZE}),
    "MeliusNet22": (32, {CLIP_13: 34}, {FLOAT: 17}, {}),
    "RealToBinaryNet": (32, {CLIP_1: 16}, {FLOAT: 37}, {"r2b_bnn_block_2a_conv2d": CLIP_1}),
    "XNORNet": (224, {XNOR: 3}, {FLOAT: 2, SIZE: 3}, {"quant_conv2d": SIZE, "quant_conv2d_4": SIZE}),
}  # fmt: skip

# Deeper forms of networks that are tried too.
LARGE = {"QuickNetLarge", "BinaryDenseNet37", "BinaryDenseNet37Dilated", "BinaryDenseNet45"}


def build(name, size, seed=0):
    """Builds a network with random weights whose batch norms do not stand at their start."""
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    module = sota if hasattr(sota, name) else literature
    model = getattr(module, name)(weights=None, input_shape=(size, size, 3), num_classes=10)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(size=layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
    return model


def outputs(model, size):
    """The probabilities, and what stands before them, which no rounding hides."""
    image = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    ends = [layer.output for layer in model.layers[-2:]]
    return [output.numpy() for output in tf.keras.Model(model.input, ends)(image)]


def test_every_architecture_is_in_the_table():
    public = {name for module in (sota, literature) for name in vars(module) if name[0].isupper()}
    assert public == set(NETWORKS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in NETWORKS],
)
def test_the_whole_codebook_gives_the_same_network(name):
    size, changed, left_alone, named = NETWORKS[name]
    model = build(name, size)
    whole = sparsify(model, 512)
    kernels = whole.sparsify_report.kernels
    reasons = {
        kernel.name: re.sub(r"[\d.e-]+(?= to| a channel)", "#", kernel.reason).removesuffix(ALL)
        for kernel in kernels
    }
    for expected, flag in ((changed, True), (left_alone, False)):
        found = Counter(reasons[kernel.name] for kernel in kernels if kernel.changed is flag)
        assert found == expected
    assert {name: reasons[name] for name in named} == named
    for kernel in kernels:
        assert kernel.num_codewords == (512 if kernel.changed else None)
        assert kernel.signs_flipped == 0
        assert not kernel.changed or kernel.kernel_shape[:2] == (3, 3)
    first, second = outputs(model, size), outputs(whole, size)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one, other)
    assert all(np.isfinite(output).all() for output in first) and np.std(first[1]) > 0


def test_quicknet_at_its_full_size_gets_32_codewords_a_kernel():
    sparse = sparsify(sota.QuickNet(weights=None), 32)
    changed = [kernel for kernel in sparse.sparsify_report.kernels if kernel.changed]
    assert len(changed) == 16 and {kernel.num_codewords for kernel in changed} == {32}
    # Random kernels: of 9 signs, 32 of 512 patterns leave about 1.7 wrong.
    assert all(0.15 < kernel.signs_flipped < 0.22 for kernel in changed)
