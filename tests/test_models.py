import dataclasses
import json
import math

import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks import layers
from larq_sks.models import codewords, summary
from larq_sks.quantizers import SparseKernelSign
from larq_sks.selections import Fixed, Permutation
from larq_sks.storage import save

BINARY = dict(
    input_quantizer="ste_sign", kernel_quantizer="ste_sign", kernel_constraint="weight_clip"
)
SPARSE = dict(input_quantizer="ste_sign", selection="fixed")


def test_codewords_are_counted_and_the_most_used_come_first():
    layer = layers.SKSConv2D(
        3, 3, num_codewords=4, selection=Fixed([511, 0, 7, 56]), name="conv", use_bias=False
    )
    layer.build((None, 8, 8, 2))
    rows = np.array([[1 if i >> k & 1 else -1 for k in range(9)] for i in (511, 0, 7, 56)])
    used = [1, 1, 1, 2, 2, 0]  # of each block the row
    layer.kernel.latent_variable.assign(0.3 * rows[used].T.reshape(3, 3, 2, 3))
    (name, chosen), *rest = codewords(layer).items()
    assert name == "conv" and not rest
    assert chosen.indices.tolist() == [0, 7, 511, 56]
    assert chosen.counts.tolist() == [3, 2, 1, 0]
    np.testing.assert_array_equal(chosen.patterns, rows[[1, 2, 0, 3]].reshape(4, 3, 3))
    shares = np.array([3, 2, 1]) / 6
    np.testing.assert_allclose(chosen.entropy, -(shares * np.log2(shares)).sum())


def test_names_and_shapes_of_all_kernels():
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((8, 8, 8)),
            layers.SKSSeparableConv2D(
                8, 3, depthwise_num_codewords=5, pointwise_num_codewords=3, name="separable"
            ),
            layers.SKSConv2D(4, 1, num_codewords=6, codeword_shape=(1, 1, 4, 2), name="pointwise"),
            tf.keras.layers.Flatten(),
            layers.SKSDense(3, num_codewords=256, name="dense"),
        ]
    )
    found = sks.codewords(model)
    assert {name: chosen.patterns.shape for name, chosen in found.items()} == {
        "separable/depthwise": (5, 3, 3),
        "separable/pointwise": (3, 8),
        "pointwise": (6, 4, 2),
        "dense": (256, 8),
    }
    blocks = {"separable/depthwise": 8, "separable/pointwise": 8, "pointwise": 4, "dense": 54}
    for name, chosen in found.items():
        assert chosen.counts.sum() == blocks[name]
        assert np.all(np.diff(chosen.counts) <= 0)
        assert len(set(chosen.indices.tolist())) == len(chosen.indices)


def test_the_first_phase_shows_the_whole_codebook():
    layer = layers.SKSConv2D(8, 3, num_codewords=4, selection=Permutation(start=[0, 1, 2, 3]))
    layer.build((None, 8, 8, 8))
    (kernel,) = layers.sparse_kernels(layer)
    kernel.quantizer.selection.phase = "whole"
    (chosen,) = codewords(layer).values()
    assert sorted(chosen.indices) == list(range(512))
    signs = np.where(kernel.latent() >= 0, 1, -1).reshape(9, -1).T
    _, counts = np.unique(signs, axis=0, return_counts=True)
    assert sorted(chosen.counts[chosen.counts > 0]) == sorted(counts)
    kernel.quantizer.selection.phase = "learn"
    (chosen,) = codewords(layer).values()
    assert sorted(chosen.indices) == [0, 1, 2, 3]


def test_one_codeword_has_no_entropy():
    layer = layers.SKSDense(4, num_codewords=1)
    layer.build((None, 16))
    (chosen,) = codewords(layer).values()
    assert chosen.entropy == 0.0 and chosen.counts.tolist() == [8]


@pytest.mark.parametrize(
    "model", [tf.keras.layers.Dense(3, name="plain"), layers.SKSDense(8, name="plain")]
)
def test_models_without_a_sparse_kernel_are_an_error(model):
    """Among them those that have not been built."""
    with pytest.raises(ValueError, match="`model` must be a built model.*Received: plain"):
        codewords(model)


def test_layers_of_nested_models_that_share_a_name_are_told_apart():
    def part():
        layer = sks.layers.SKSConv2D(4, 3, num_codewords=4, selection="fixed", name="same")
        return tf.keras.Sequential([tf.keras.Input((8, 8, 4)), layer])

    model = tf.keras.Sequential([tf.keras.Input((8, 8, 4)), part(), part()])
    assert list(sks.codewords(model)) == ["same", "same#2"]


def quietly(model):
    return summary(model, print_fn=lambda line: None)


def sequential(*stack, shape=(8, 8, 8)):
    return tf.keras.Sequential([tf.keras.Input(shape), *stack])


def kernel_of(*stack, shape=(8, 8, 8)):
    """The figures of the last kernel of a stack of layers."""
    return quietly(sequential(*stack, shape=shape)).layers[-1].kernels[-1]


def resnet18(num_codewords):
    """The convolutional part of ResNet-18, whose sixteen 3×3 convolutions are binary."""
    x = image = tf.keras.Input((224, 224, 3))
    x = tf.keras.layers.Conv2D(64, 7, 2, padding="same")(x)
    x = tf.keras.layers.MaxPool2D(3, 2, padding="same")(x)
    for filters in (64, 128, 256, 512):
        for number in range(4):
            strides = 2 if number == 0 and filters > 64 else 1
            options = dict(strides=strides, padding="same", use_bias=False)
            if num_codewords is None:
                x = lq.layers.QuantConv2D(filters, 3, **BINARY, **options)(x)
            else:
                x = layers.SKSConv2D(filters, 3, num_codewords=num_codewords, **SPARSE, **options)(
                    x
                )
    return tf.keras.Model(image, x)


@pytest.mark.parametrize(
    "num_codewords, megabits, giga_operations",
    [(None, "10.99", 1.677), (64, "7.324", 0.883), (32, "6.103", 0.501), (16, "4.882", 0.297)],
)
def test_the_published_rows(num_codewords, megabits, giga_operations):
    figures = quietly(resnet18(num_codewords))
    digits = len(megabits) - megabits.index(".") - 1
    assert f"{figures.cost.bits / 1e6:.{digits}f}" == megabits
    assert abs(figures.cost.bit_operations / 1e9 - giga_operations) <= 0.001
    assert f"{figures.at_one_bit.bits / 1e6:.2f}" == "10.99"
    assert abs(figures.at_one_bit.bit_operations / 1e9 - 1.677) <= 0.001
    # What the published sizes leave out.
    assert figures.cost.codebook_bits == (16 * 9 * num_codewords if num_codewords else 0)
    assert figures.macs == 112 * 112 * 7 * 7 * 3 * 64


def test_a_layer_by_hand():
    layer = layers.SKSConv2D(
        6,
        3,
        num_codewords=4,
        selection=Fixed([511, 0, 7, 56]),
        input_quantizer="ste_sign",
        name="conv",
    )
    model = sequential(layer, shape=(10, 12, 2))
    rows = np.array([[1 if i >> k & 1 else -1 for k in range(9)] for i in (511, 0, 7, 56)])
    used = [0, 0, 1, 1, 2, 0] + [1, 1, 1, 1, 1, 3]  # by the first input channel, by the second
    layer.kernel.latent_variable.assign(0.3 * rows[used].T.reshape(3, 3, 2, 6))
    figures = quietly(model)
    assert [layer.name for layer in figures.layers] == ["conv"]
    assert figures.layers[0].output_shapes == ((None, 8, 10, 6),)
    assert figures.layers[0].other_weights == 6 and figures.layers[0].other_bits == 6 * 32
    (kernel,) = figures.layers[0].kernels
    assert kernel.name == "conv" and kernel.shape == (3, 3, 2, 6)
    assert kernel.codewords == 4 and kernel.codeword_shape == (3, 3, 1, 1)
    assert kernel.input_bits == 1 and kernel.macs == 0
    assert kernel.cost.bits == 12 * 2 and kernel.bits_per_weight == 2 / 9
    assert kernel.cost.codebook_bits == 36
    assert kernel.cost.bit_operations == 80 * 2 * (9 * 4 + 3)
    assert kernel.cost.correlations == 80 * (3 + 2)
    assert kernel.cost.additions == 80 * 12
    one = kernel.at_one_bit
    assert (one.bits, one.codebook_bits, one.bit_operations) == (108, 0, 80 * 108)
    assert (one.correlations, one.additions) == (80 * 12, 80 * 12)
    shares = np.array([3, 7, 1, 1]) / 12
    np.testing.assert_allclose(kernel.entropy_bits, -12 * (shares * np.log2(shares)).sum())
    assert figures.cost == kernel.cost and figures.at_one_bit == one
    assert figures.bits == 24 + 36 + 192 and figures.bits_at_one_bit == 108 + 192
    assert figures.float32_bits == 32 * (108 + 6)
    assert figures.file_bytes == math.ceil((kernel.file_bits + 192) / 8)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (tf.keras.layers.Conv2D(5, 3, strides=2), (9, 10, 3)),
        (tf.keras.layers.Conv2D(5, 3, dilation_rate=2), (9, 10, 3)),
        (tf.keras.layers.Conv1D(5, 4), (9, 3)),
        (tf.keras.layers.Conv3D(2, 2, strides=(1, 2, 1)), (4, 5, 6, 3)),
        (tf.keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (9, 10, 3)),
        (tf.keras.layers.Conv2DTranspose(5, 3, strides=2), (4, 5, 3)),
        (tf.keras.layers.Conv1DTranspose(5, 3, strides=2), (4, 3)),
        (tf.keras.layers.Dense(5), (7,)),
        (tf.keras.layers.Dense(5), (4, 5, 7)),
        (tf.keras.layers.LocallyConnected1D(5, 3), (7, 2)),
        (
            lq.layers.QuantConv2D(
                8, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip"
            ),
            (5, 6, 8),
        ),
        (
            lq.layers.QuantDense(8, kernel_quantizer="ste_sign", kernel_constraint="weight_clip"),
            (8,),
        ),
    ],
)
def test_multiply_accumulates_are_as_many_as_happen(layer, shape):
    """Ones times ones, summed over all outputs, count the products; without padding none is left out."""
    copy = type(layer).from_config({**layer.get_config(), "use_bias": False})
    model = sequential(copy, shape=shape)
    copy.set_weights([np.ones_like(weight) for weight in copy.get_weights()])
    (kernel,) = quietly(model).layers[0].kernels
    assert kernel.macs == int(tf.reduce_sum(copy(tf.ones((1, *shape)))))


@pytest.mark.parametrize(
    "make", [zoo.ResNet8, lambda: lq_zoo("QuickNetSmall"), lambda: lq_zoo("BinaryDenseNet28")]
)
def test_larqs_own_summary_agrees_on_one_bit_networks(make):
    """It counts mean with beta and variance with gamma as one, as if batch norm were fused."""
    model = make()
    figures, larq = quietly(model), lq.models.ModelProfile(model)
    assert (
        figures.cost.bit_operations == figures.at_one_bit.bit_operations == larq.op_count("mac", 1)
    )
    assert figures.macs == larq.op_count("mac", 32)
    norms = [
        layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    fused = sum(32 * (norm.center + norm.scale) * norm.moving_mean.shape[0] for norm in norms)
    assert figures.bits == figures.bits_at_one_bit == larq.memory + fused


def lq_zoo(name):
    larq_zoo = pytest.importorskip("larq_zoo", reason="the networks are larq-zoo's")
    found = getattr(larq_zoo.sota, name, None) or getattr(larq_zoo.literature, name)
    return found(weights=None)


def test_separable_kernels_are_two_and_the_second_sees_no_bits():
    layer = layers.SKSSeparableConv2D(
        16,
        3,
        depthwise_num_codewords=16,
        pointwise_num_codewords=4,
        depth_multiplier=2,
        name="two",
        **SPARSE,
    )
    depthwise, pointwise = quietly(sequential(layer)).layers[0].kernels
    assert (depthwise.name, pointwise.name) == ("two/depthwise", "two/pointwise")
    assert depthwise.cost.bits == 4 * 16 and pointwise.cost.bits == 2 * 2 * 16
    assert pointwise.codeword_shape == (1, 1, 8, 1) and pointwise.bits_per_weight == 0.25
    # Two blocks a channel cannot share one of 16 codewords.
    assert depthwise.cost.bit_operations == 36 * 9 * 16 and depthwise.macs == 0
    assert pointwise.cost.bit_operations == 0 and pointwise.macs == 36 * 16 * 16


def test_codewords_of_other_shapes():
    """Blocks of 8 inputs: K takes the place of 9, runs of inputs that of input channels."""
    options = dict(num_codewords=16, use_bias=False, **SPARSE)
    kernel = kernel_of(layers.SKSConv2D(32, 1, **options), shape=(6, 5, 24))
    assert kernel.cost.bits == 3 * 32 * 4
    assert kernel.cost.bit_operations == 30 * 3 * (8 * 16 + 32 / 2)
    assert kernel.cost.additions == 30 * 3 * 32 and kernel.at_one_bit.bit_operations == 30 * 24 * 32
    kernel = kernel_of(layers.SKSDense(64, **options), shape=(24,))
    assert kernel.cost.bit_operations == 3 * (8 * 16 + 64 / 2)
    # A block of two output channels: half as many blocks, as many additions.
    kernel = kernel_of(
        layers.SKSConv2D(64, 1, codeword_shape=(1, 1, 4, 2), **options), shape=(6, 5, 24)
    )
    assert kernel.cost.bit_operations == 30 * 6 * (8 * 16 + 64 / 2)


def test_transposed_convolutions_count_the_positions_of_their_input():
    layer = layers.SKSConv2DTranspose(32, 3, strides=2, num_codewords=16, **SPARSE)
    kernel = kernel_of(layer, shape=(5, 4, 6))
    assert kernel.shape == (3, 3, 32, 6)
    assert kernel.cost.bit_operations == 20 * 6 * (
        9 * 16 + 4 * 32 / 2
    )  # four outputs for one input
    assert kernel.at_one_bit.bit_operations == 20 * 9 * 6 * 32
    assert 20 * 6 < kernel.cost.correlations <= 20 * 6 * 16


def test_groups_share_less():
    layer = layers.SKSConv2D(64, 3, groups=4, num_codewords=8, use_bias=False, **SPARSE)
    kernel = kernel_of(layer, shape=(8, 8, 16))
    assert kernel.shape == (3, 3, 4, 64)
    assert kernel.cost.bit_operations == 36 * 16 * (9 * 8 + 16 / 2)
    assert kernel.at_one_bit.bit_operations == 36 * 9 * 4 * 64


@pytest.mark.parametrize("padding, size", [("valid", 4), ("same", 5)])
def test_padding_and_strides(padding, size):
    kernel = kernel_of(
        layers.SKSConv2D(
            8, 3, strides=2, padding=padding, pad_values=1.0, num_codewords=512, **SPARSE
        ),
        shape=(9, 9, 4),
    )
    assert kernel.cost.bit_operations == size * size * 9 * 4 * 8


def test_channels_first():
    """Shapes alone: TensorFlow cannot run it on a CPU."""
    layer = layers.SKSConv2D(16, 3, data_format="channels_first", num_codewords=512, **SPARSE)
    kernel = kernel_of(layer, shape=(4, 9, 8))
    assert kernel.cost.bit_operations == 7 * 6 * 9 * 4 * 16


def test_kernels_of_other_precisions():
    figures = quietly(
        sequential(
            lq.layers.QuantDense(4, input_quantizer="ste_sign", kernel_quantizer="ste_tern", name="ternary"),
            lq.layers.QuantDense(4, kernel_quantizer=lq.quantizers.DoReFa(4, mode="weights"), name="four"),
            lq.layers.QuantDense(
                8, input_quantizer=lq.quantizers.DoReFa(2), kernel_quantizer="ste_sign",
                kernel_constraint="weight_clip", name="two_bit_inputs",
            ),
            tf.keras.layers.Dense(4, dtype="float16", name="half"),
            shape=(8,),
        )
    )  # fmt: skip
    ternary, four, inputs, half = (layer.kernels[0] for layer in figures.layers)
    assert [kernel.codewords for kernel in (ternary, four, inputs, half)] == [None, None, 2, None]
    assert [kernel.bits_per_weight for kernel in (ternary, four, inputs, half)] == [2, 4, 1, 16]
    assert [kernel.input_bits for kernel in (ternary, four, inputs, half)] == [1, None, 2, None]
    assert [kernel.macs for kernel in (ternary, four, inputs, half)] == [32, 16, 32, 32]
    assert figures.cost.bit_operations == 0 and figures.macs == 112
    other = 32 * 2 + 16 * 4 + 32 * 16 + 32 * (4 + 4 + 8) + 16 * 4
    assert figures.other_bits == other and figures.bits == 32 + other
    # A file has no format of its own for ternary kernels.
    assert ternary.file_bits == 32 * 32


def test_multipliers_of_kernels_are_weights():
    quantizer = SparseKernelSign(4, "fixed", scale=True)
    ours = lq.layers.QuantConv2D(
        6, 3, kernel_quantizer=quantizer, kernel_constraint="weight_clip", use_bias=False
    )
    figures = quietly(sequential(ours))
    assert figures.cost.bits == 2 * 8 * 6 and figures.other_bits == 6 * 32
    for quantizer, number in (("magnitude_aware_sign", 6), ("ste_sign", 0), ("ste_heaviside", 0)):
        theirs = lq.layers.QuantConv2D(
            6, 3, kernel_quantizer=quantizer, kernel_constraint="weight_clip", use_bias=False
        )
        figures = quietly(sequential(theirs))
        assert figures.cost.bits == 9 * 8 * 6 and figures.other_bits == number * 32
        assert figures.layers[0].other_weights == number
    # The last of them has weights 0 and 1, which a file keeps as floats.
    assert figures.layers[0].kernels[0].file_bits == 9 * 8 * 6 * 32


@pytest.mark.parametrize("selection", ["fixed", "permutation", Permutation(full_permutation=True)])
def test_what_only_training_needs_does_not_count(selection):
    layer = layers.SKSConv2D(16, 3, num_codewords=8, selection=selection, use_bias=False)
    model = sequential(layer)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((2, 8, 8, 8)), np.zeros((2, 6, 6, 16)), verbose=0)
    figures = quietly(model)
    assert figures.other_bits == 0 and figures.bits == 16 * 8 * 3 + 8 * 9


def test_the_first_phase_counts_as_the_whole_codebook():
    model = sequential(layers.SKSConv2D(16, 3, num_codewords=8, input_quantizer="ste_sign"))
    model.layers[0].kernel_quantizer.selection.phase = "whole"
    (kernel,) = quietly(model).layers[0].kernels
    assert (
        kernel.codewords == 512 and kernel.bits_per_weight == 1 and kernel.cost.codebook_bits == 0
    )


def mixed():
    """As QuickNet, plain 1-bit, float and depthwise layers; blocks of 3×3 and of 8."""
    tf.keras.utils.set_random_seed(0)
    return sequential(
        tf.keras.layers.Conv2D(32, 3, strides=2),
        layers.SKSConv2D(64, 3, num_codewords=64, **SPARSE),
        tf.keras.layers.BatchNormalization(),
        lq.layers.QuantConv2D(128, 3, **BINARY),
        layers.SKSConv2D(128, 1, num_codewords=24, **SPARSE),
        tf.keras.layers.DepthwiseConv2D(3),
        tf.keras.layers.GlobalAveragePooling2D(),
        lq.layers.QuantDense(10, kernel_quantizer="ste_tern"),
        shape=(32, 32, 3),
    )


@pytest.mark.parametrize("make", [networks.resnet8, lambda: networks.resnet20(32), mixed])
def test_files_are_as_large_as_expected(make, tmp_path):
    """A coder of single blocks cannot beat the entropy; other weights shrink by compression."""
    model = make()
    figures = quietly(model)
    report = save(model, tmp_path / "net.sks")
    kernels = [kernel for layer in figures.layers for kernel in layer.kernels]
    sections = dict(report.sections)
    architecture = sections.pop("architecture")
    codewords = sections.pop("indices") + sections.pop("codebooks", 0)
    expected = sum(kernel.file_bits for kernel in kernels if kernel.codewords is not None) / 8
    entropy = (figures.entropy_bits + figures.cost.codebook_bits) / 8
    assert 0.98 * entropy <= codewords <= 1.01 * expected + 8 * len(kernels)
    floats = sum(kernel.file_bits for kernel in kernels if kernel.codewords is None)
    rest = (floats + sum(layer.other_bits for layer in figures.layers)) / 8
    assert 0.5 * rest <= sum(sections.values()) <= rest
    assert figures.file_bytes == pytest.approx(expected + rest, abs=1)
    assert report.size <= figures.file_bytes + architecture + 1024


def test_inputs_made_binary_by_the_layer_before():
    for before in (lq.quantizers.SteSign(), tf.keras.layers.Activation(lq.quantizers.SteSign())):
        kernel = kernel_of(before, layers.SKSConv2D(8, 3, num_codewords=8, selection="fixed"))
        assert kernel.input_bits == 1 and kernel.macs == 0 and kernel.cost.bit_operations > 0
    kernel = kernel_of(tf.keras.layers.ReLU(), layers.SKSConv2D(8, 3, num_codewords=8))
    assert kernel.input_bits is None and kernel.macs == 36 * 9 * 64


def test_a_layer_used_twice_has_its_weights_once_and_its_operations_twice():
    shared = layers.SKSConv2D(8, 3, num_codewords=4, padding="same", use_bias=False, **SPARSE)
    image = tf.keras.Input((8, 8, 8))
    model = tf.keras.Model(image, shared(tf.keras.layers.MaxPool2D()(shared(image))))
    figures = quietly(model)
    assert figures.cost.bits == 128 and figures.bits == 128 + 36
    assert figures.at_one_bit.bit_operations == (64 + 16) * 9 * 64
    layer = next(layer for layer in figures.layers if layer.kernels)
    assert layer.output_shapes == ((None, 8, 8, 8), (None, 4, 4, 8))
    # A second model with the layer does not change the first.
    tf.keras.Model(image, shared(image))
    assert quietly(model) == figures


def test_nested_models():
    inner = sequential(
        layers.SKSConv2D(8, 3, num_codewords=4, padding="same", name="same", **SPARSE),
        tf.keras.layers.BatchNormalization(),
        tf.keras.layers.Conv2D(8, 3, strides=2, padding="same"),
    )
    other = sequential(layers.SKSConv2D(8, 3, num_codewords=4, name="same", **SPARSE))
    image = tf.keras.Input((8, 8, 8))
    # Keras made `inner` for 8×8, and gives it 4×4 too.
    model = tf.keras.Model(image, other(tf.keras.layers.UpSampling2D()(inner(inner(image)))))
    figures = quietly(model)
    kernels = [kernel for layer in figures.layers for kernel in layer.kernels]
    assert [kernel.name for kernel in kernels] == ["same", kernels[1].name, "same#2"]
    assert {"same", "same#2"} == set(codewords(model))
    assert kernels[0].at_one_bit.bit_operations == (64 + 16) * 9 * 64
    assert kernels[1].macs == (16 + 4) * 9 * 64
    assert kernels[2].at_one_bit.bit_operations == 4 * 9 * 64
    assert figures.other_bits == 32 * (8 + 4 * 8 + (9 * 64 + 8) + 8)


def test_sizes_that_are_not_known():
    layer = layers.SKSConv2D(8, 3, num_codewords=4, **SPARSE)
    model = sequential(layer, tf.keras.layers.Conv2D(8, 3), shape=(None, 8, 8))
    lines: list[str] = []
    figures = summary(model, print_fn=lines.append)
    assert (
        figures.cost.bit_operations is figures.cost.correlations is figures.cost.additions is None
    )
    assert figures.at_one_bit.bit_operations is figures.macs is None
    assert figures.layers[0].kernels[0].macs == 0 and figures.layers[1].kernels[0].macs is None
    assert figures.cost.bits == 128
    assert any("?x6x8" in line and line.count(" -") >= 4 for line in lines)


def test_models_that_record_no_calls_have_sizes_only():
    class Subclassed(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = layers.SKSConv2D(8, 3, num_codewords=4, use_bias=False, **SPARSE)
            self.cell = tf.keras.layers.TimeDistributed(tf.keras.layers.Dense(2))
            self.bias = self.add_weight(name="bias", shape=(3,))

        def call(self, images):
            return self.cell(self.conv(images))

    model = Subclassed()
    model(tf.zeros((1, 8, 8, 8)))
    figures = quietly(model)
    assert figures.cost.bits == 128 and figures.other_bits == 32 * (3 + 16 + 2)
    assert figures.cost.bit_operations is None and figures.macs is None
    assert figures.layers[0].output_shapes == ()


def test_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = zoo.ResNet8(num_codewords=8, selection="fixed")
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    expected = zoo.ResNet8(num_codewords=8, selection="fixed")
    ours, theirs = quietly(model), quietly(expected)
    assert ours.bits == theirs.bits and ours.macs == theirs.macs
    assert ours.cost.bit_operations == theirs.cost.bit_operations


@pytest.mark.parametrize("make", [lambda: zoo.ResNet8(num_codewords=8), lambda: flip_ratio()])
def test_the_model_is_left_alone(make):
    model = make()
    before = [weight.numpy() for weight in model.variables]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    metrics = [metric.result().numpy() for metric in model.metrics]
    quietly(model)
    for old, new in zip(before, model.variables):
        np.testing.assert_array_equal(old, new)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    assert metrics == [metric.result().numpy() for metric in model.metrics]


def flip_ratio():
    with lq.context.metrics_scope(["flip_ratio"]):
        model = sequential(lq.layers.QuantDense(8, **BINARY), shape=(8,))
    model(tf.ones((1, 8)))
    model.layers[0].set_weights([-weight for weight in model.layers[0].get_weights()])
    model(tf.ones((1, 8)))
    assert quietly(model).other_bits == 8 * 32
    assert any(metric.result() > 0 for metric in model.metrics)
    return model


def test_the_dict_is_json():
    figures = quietly(zoo.ResNet8(num_codewords=8, selection="fixed"))
    found = json.loads(json.dumps(figures.as_dict(), allow_nan=False))
    assert found == figures.as_dict()
    kernels = [kernel for layer in found["layers"] for kernel in layer["kernels"]]
    for figure in ("bits", "codebook_bits", "bit_operations", "correlations", "additions"):
        costs = [kernel["cost"][figure] for kernel in kernels if kernel["codewords"] == 8]
        assert len(costs) == 6 and sum(costs) == found["cost"][figure] > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        figures.bits = 0


def test_the_text_is_whole_and_at_most_100_wide():
    name = "a_layer_whose_name_takes_more_than_a_line_of_the_table_and_is_longer/than_others"
    image = tf.keras.Input((1024, 1024, 64))
    options = dict(num_codewords=500, padding="same", **SPARSE)
    x = layers.SKSConv2D(2048, 3, name=name, **options)(image)
    model = tf.keras.Model(image, tf.keras.layers.BatchNormalization()(x), name="net[bold]:dog:")
    lines: list[str] = []
    figures = summary(model, print_fn=lines.append)
    assert all(len(line) <= 100 and "…" not in line for line in lines)
    column = "".join(line.split()[0] for line in lines if line.strip())
    assert name in column
    text = "\n".join(lines)
    for expected in (
        "500",
        f"{figures.cost.bits:,.0f}",
        f"{figures.cost.bits / 8192:,.2f}",
        f"{figures.at_one_bit.bits / 8192:,.2f}",
        "1024x1024x2048",
        f"{figures.at_one_bit.bit_operations / 1e9:.4g} G",
        f"{9 / np.log2(500):.2f}",
        "layers without kernel: 2",
        "net[bold]:dog:",
    ):
        assert expected in text


def test_without_a_function_it_prints(capsys):
    lines: list[str] = []
    model = sequential(layers.SKSDense(8), shape=(8,))
    summary(model, print_fn=lines.append)
    summary(model)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == lines


def test_in_a_notebook_it_goes_where_it_is_told(capsys, monkeypatch):
    lines: list[str] = []
    model = sequential(layers.SKSDense(8), shape=(8,))
    summary(model, print_fn=lines.append)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    in_notebook: list[str] = []
    summary(model, print_fn=in_notebook.append)
    assert in_notebook == lines and capsys.readouterr().out == ""
    summary(model)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == lines


def test_a_narrow_terminal_breaks_names_and_no_numbers(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the output for a terminal
    monkeypatch.setenv("COLUMNS", "76")
    layer = layers.SKSConv2D(1024, 3, num_codewords=4, name="a_name_of_some_length", **SPARSE)
    figures = summary(sequential(layer, shape=(224, 224, 512)))
    lines = capsys.readouterr().out.splitlines()
    assert not any("a_name_of_some_length" in line for line in lines)
    assert any(f" {figures.cost.bits:,.0f} " in line for line in lines)
    assert any(" 222x222x1024 " in line for line in lines)


@pytest.mark.parametrize(
    "model",
    [tf.keras.Sequential([tf.keras.layers.Dense(3)], name="empty"), layers.SKSDense(8), "model"],
)
def test_summary_refuses_what_is_no_built_model(model):
    with pytest.raises(ValueError, match="`model` must be a built Keras model.*Received: model="):
        summary(model)
