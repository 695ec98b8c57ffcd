import json
import re
from collections import Counter
from pathlib import Path

import larq as lq
import larq_zoo as lqz
import networks
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import larq_sks_zoo as zoo
from larq_sks.convert import sparsify, tflite_file, to_tflite
from larq_sks.layers import SKSConv2D
from larq_sks.quantizers import SparseKernelSign

lce = pytest.importorskip("larq_compute_engine", reason="has no release for this Python")
layers = tf.keras.layers


@pytest.fixture(autouse=True)
def _seeded():
    tf.keras.utils.set_random_seed(0)


def conv(filters=32, kernel_size=3, **kwargs):
    options = {
        "padding": "same",
        "pad_values": 1.0,
        "use_bias": False,
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "bias_initializer": "random_normal",
    }
    return lq.layers.QuantConv2D(filters, kernel_size, **{**options, **kwargs})


def norm(**kwargs):
    """A batch norm that looks trained: multipliers of both signs, no output exactly 0."""
    normal, uniform = tf.keras.initializers.RandomNormal, tf.keras.initializers.RandomUniform
    return layers.BatchNormalization(
        gamma_initializer=uniform(-1.0, 1.5),
        beta_initializer=normal(),
        moving_mean_initializer=normal(stddev=5.0),
        moving_variance_initializer=uniform(0.5, 20.0),
        **kwargs,
    )


def model_of(*parts, shape=(6, 6, 32)):
    return tf.keras.Sequential([layers.Input(shape), *parts])


def images_for(model, count=8):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype(np.float32)


def export(model, tmp_path, **kwargs):
    return to_tflite(model, tmp_path / "net.tflite", **{"images": images_for(model), **kwargs})


def became(report):
    return {layer.name: layer.became for layer in report.layers}


@pytest.mark.parametrize("num_codewords", [None, 32])
def test_trained_resnet8_is_binary_and_agrees_on_real_images(num_codewords, tmp_path):
    model = networks.resnet8()
    if num_codewords:
        model = sparsify(model, num_codewords)
    _, (images, _) = zoo.load_cifar10_sample()
    images = zoo.preprocess_input(images[:50])

    report = to_tflite(model, tmp_path / "net.tflite", images)

    binary = [layer for layer in report.layers if layer.became == "LceBconv2d"]
    assert [layer.name for layer in binary] == [
        layer.name for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)
    ]
    assert len(binary) == 6 == report.ops["LceBconv2d"] == report.ops["LceQuantize"]
    assert {layer.name for layer in report.layers if layer.became == "float"} == {
        "stem", "stage2_1_shortcut", "stage3_1_shortcut", "logits"
    }  # fmt: skip
    assert report.largest_difference < 1e-4 < report.largest_output
    assert (report.images, report.noise) == (50, False)
    assert report.same_images == report.equal_argmax == 1
    # What LCE makes of the file that was written.
    data = (tmp_path / "net.tflite").read_bytes()
    assert report.size == len(data)
    np.testing.assert_allclose(
        lce.testing.Interpreter(data).predict(np.asarray(images)),
        model.predict(images, verbose=0),
        atol=1e-4,
    )


@pytest.mark.skipif(not networks.XNOR.exists(), reason="needs the shared data")
def test_trained_vgg16_agrees_on_real_images_but_for_signs_that_rounding_turns(tmp_path):
    model = networks.xnor_vgg16()
    images, _ = networks.cifar10_test(50)

    report = to_tflite(model, tmp_path / "net.tflite", networks.xnor_inputs(images))

    assert report.ops["LceBconv2d"] == 12 == Counter(became(report).values())["LceBconv2d"]
    padded = [layer.name for layer in report.layers if "less a constant" in layer.reason]
    assert padded == ["conv10", "conv11", "conv12"]  # on images of 2×2
    assert report.same_images >= 0.94
    assert report.equal_argmax >= 0.98
    assert report.relative_error < 0.05


@pytest.mark.slow
@pytest.mark.skipif(not networks.XNOR.exists(), reason="needs the shared data")
def test_rounding_turns_signs_of_vgg16_in_keras_too():
    images = networks.xnor_inputs(networks.cifar10_test(200)[0])
    single = networks.xnor_vgg16().predict(images, batch_size=1, verbose=0)
    tf.keras.backend.set_floatx("float64")
    try:
        double = networks.xnor_vgg16().predict(images.astype(np.float64), batch_size=20, verbose=0)
    finally:
        tf.keras.backend.set_floatx("float32")
    difference = np.abs(single - double).max(axis=1)
    turned = difference > 1e-4 * np.abs(single).max()
    assert 0 < turned.mean() < 0.15
    assert difference[turned].max() > 0.1
    assert np.mean(single.argmax(-1) == double.argmax(-1)) > 0.98


# The tables of docs/guides/deploy.md.
BINARY = {"LceQuantize": 1, "LceBconv2d": 1}
ORDERS = {
    "conv": (lambda: [conv()], BINARY),
    "conv-relu": (lambda: [conv(), layers.ReLU()], BINARY),
    "conv-norm": (lambda: [conv(), norm()], BINARY),
    "conv-relu-norm": (lambda: [conv(), layers.ReLU(), norm()], BINARY),
    "activation=relu": (lambda: [conv(activation="relu"), norm()], BINARY),
    "bias-norm": (lambda: [conv(use_bias=True), norm()], BINARY),
    "strides": (lambda: [conv(strides=2), layers.ReLU(), norm()], BINARY),
    "dilation": (lambda: [conv(dilation_rate=2), layers.ReLU(), norm()], BINARY),
    "valid": (lambda: [conv(padding="valid"), layers.ReLU(), norm()], BINARY),
    "zeros-norm": (lambda: [conv(pad_values=0.0), norm()], BINARY),
    "conv-norm-relu": (lambda: [conv(), norm(), layers.ReLU()], {**BINARY, "RELU": 1}),
    "bias-relu-norm": (
        lambda: [conv(use_bias=True), layers.ReLU(), norm()],
        {**BINARY, "RELU": 1, "MUL": 1, "ADD": 1},
    ),
    "zeros-relu-norm": (
        lambda: [conv(pad_values=0.0), layers.ReLU(), norm()],
        {**BINARY, "RELU": 1, "MUL": 1, "ADD": 1},
    ),
    "conv-prelu-norm": (
        lambda: [conv(), layers.PReLU("normal", shared_axes=[1, 2]), norm()],
        {**BINARY, "PRELU": 1, "MUL": 1, "ADD": 1},
    ),
    "conv-norm-prelu": (
        lambda: [conv(), norm(), layers.PReLU("normal", shared_axes=[1, 2])],
        {**BINARY, "PRELU": 1},
    ),
    "conv-relu-norm-conv": (
        lambda: [conv(), layers.ReLU(), norm(), conv(), norm()],
        {"LceQuantize": 1, "LceBconv2d": 2},
    ),
    "zeros-norm-conv": (
        lambda: [conv(pad_values=0.0), norm(), conv(), norm()],
        {"LceQuantize": 2, "LceBconv2d": 2},
    ),
    "conv-norm-pool-conv": (
        lambda: [conv(), norm(), layers.MaxPooling2D(), conv(), norm()],
        {"LceQuantize": 1, "LceBconv2d": 2, "LceBMaxPool2d": 1},
    ),
    "conv-pool-norm-conv": (
        lambda: [conv(), layers.MaxPooling2D(), norm(), conv(), norm()],
        {"LceQuantize": 2, "LceBconv2d": 2, "MAX_POOL_2D": 1, "MUL": 1, "ADD": 1},
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_orders_of_layers_fuse_as_the_guide_says(name, tmp_path):
    parts, ops = ORDERS[name]
    report = export(model_of(*parts()), tmp_path)
    assert report.ops == ops
    assert "float" not in became(report).values()
    assert report.same_images == 1


def test_residual_adds_stay_outside(tmp_path):
    inputs = x = layers.Input((6, 6, 32))
    for _ in range(2):
        x = layers.add([x, norm()(conv()(x))])
    report = export(tf.keras.Model(inputs, x), tmp_path)
    assert report.ops == {"LceQuantize": 2, "LceBconv2d": 2, "ADD": 2}
    assert report.same_images == 1


def test_multipliers_of_a_kernel_fuse(tmp_path):
    model = model_of(
        conv(kernel_quantizer=SparseKernelSign(8, scale=True)),
        norm(),
        conv(kernel_quantizer="magnitude_aware_sign"),
    )
    multiplier = model.layers[0].kernel_quantizer.multiplier
    multiplier.assign(np.random.default_rng(0).uniform(0.2, 3.0, multiplier.shape))
    report = export(model, tmp_path)
    assert report.ops == {"LceQuantize": 1, "LceBconv2d": 2}
    assert report.same_images == 1


@settings(max_examples=8, deadline=None, database=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 3),
    st.sampled_from([("valid", 0.0), ("same", 0.0), ("same", 1.0)]),
    st.booleans(),
)
def test_any_sizes_are_found_in_the_file_and_agree(
    tmp_path_factory, cin, cout, size, stride, pad, twice
):
    padding, value = pad
    first = conv(cout, size, strides=stride, padding=padding, pad_values=value)
    # A second convolution makes the first write bits, with rows turned round by negative multipliers.
    parts = [first, norm(), *([conv(8, 1)] if twice else [])]
    report = export(model_of(*parts, shape=(7, 6, cin)), tmp_path_factory.mktemp("sizes"))
    assert set(became(report).values()) == {"LceBconv2d"}
    assert report.same_images == 1


@pytest.mark.parametrize(
    "image, size, strides, rate",
    [((2, 2), 3, 1, 1), ((1, 1), 3, 2, 1), ((4, 3), 5, 1, 1), ((4, 4), 3, 1, 2), ((2, 9), 3, 1, 1)],
)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_zero_padding_on_images_smaller_than_the_kernel(
    image, size, strides, rate, activation, tmp_path
):
    layer = conv(
        24, size, strides=strides, dilation_rate=rate, pad_values=0.0, use_bias=True, activation=activation
    )  # fmt: skip
    model = model_of(layer, norm(), shape=(*image, 40))
    report = export(model, tmp_path)
    assert report.layers[0].became == "LceBconv2d"
    assert "padded with ones less a constant" in report.layers[0].reason
    assert report.largest_difference < 1e-4 * report.largest_output


def test_lce_itself_gets_zero_padding_wrong_there():
    """If this fails, LCE has mended it, and `PaddedWithOnes` can go."""
    model = model_of(conv(pad_values=0.0), shape=(2, 2, 32))
    images = images_for(model)
    data = lce.convert_keras_model(model)
    wanted = model.predict(images, verbose=0)
    assert np.abs(lce.testing.Interpreter(data).predict(images) - wanted).max() > 10
    reference = lce.testing.Interpreter(data, use_reference_bconv=True).predict(images)
    np.testing.assert_array_equal(reference, wanted)


class Own(lq.layers.QuantConv2D):
    """A user's class, whose `call` could be anything."""


def kernel_with_a_dead_channel():
    layer = conv(kernel_quantizer="magnitude_aware_sign", name="culprit")
    layer.build((None, 6, 6, 32))
    layer.kernel.assign(layer.kernel * tf.constant([1.0] * 5 + [0.0] + [1.0] * 26))
    return layer


@pytest.mark.parametrize(
    "culprit, shape, reason",
    [
        (lambda: conv(pad_values=-1.0, name="culprit"), (6, 6, 32), r"pad_values=-1\.0; LCE pads with"),
        (lambda: conv(groups=4, name="culprit"), (6, 6, 32), "groups=4; LCE runs no groups"),
        (lambda: conv(groups=2, name="culprit"), (6, 6, 64), "groups=2, which only .* reference"),
        (
            lambda: conv(data_format="channels_first", name="culprit"),
            (32, 6, 6),
            "data_format='channels_first'",
        ),
        (
            lambda: conv(input_quantizer="ste_heaviside", name="culprit"),
            (6, 6, 32),
            "gives other values than -1 and",
        ),
        (lambda: conv(input_quantizer="ste_tern", name="culprit"), (6, 6, 32), "for a sign, but it gives"),
        (lambda: conv(kernel_quantizer="ste_tern", name="culprit"), (6, 6, 32), "are 0 or|not binary"),
        (lambda: conv(kernel_quantizer=None, name="culprit"), (6, 6, 32), "kernel is not binary"),
        (kernel_with_a_dead_channel, (6, 6, 32), r"multiplier below 1.2e-7.*\[5\]"),
        (
            lambda: Own(
                8,
                3,
                padding="same",
                input_quantizer="ste_sign",
                kernel_quantizer="ste_sign",
                kernel_constraint="weight_clip",
                name="culprit",
            ),
            (2, 2, 32),
            "use pad_values=1.0",
        ),
    ],
)  # fmt: skip
def test_a_convolution_that_is_not_binary_is_named_with_the_reason(
    culprit, shape, reason, tmp_path
):
    model = model_of(culprit(), layers.ReLU(), shape=shape)
    (tmp_path / "net.tflite").write_text("old")
    with pytest.raises(
        ValueError, match=rf"(?s)- 'culprit' \(\w+\): .*{reason}.*Nothing was written"
    ):
        export(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["net.tflite"]
    assert (tmp_path / "net.tflite").read_text() == "old"


def test_only_the_culprit_is_named(tmp_path):
    model = model_of(conv(name="good"), norm(), conv(pad_values=-1.0, name="bad"), norm(), conv())
    with pytest.raises(ValueError, match="'bad'") as error:
        export(model, tmp_path)
    assert "'good'" not in str(error.value)


def test_one_flipped_weight_is_another_kernel(tmp_path):
    model = model_of(conv(5, name="conv"), norm(), conv(7, 1), shape=(6, 6, 40))
    export(model, tmp_path)
    filters = tflite_file.read((tmp_path / "net.tflite").read_bytes()).binary
    kernel = lq.math.sign(model.get_layer("conv").kernel).numpy()
    assert tflite_file.is_among_binary(kernel, filters)
    kernel[2, 1, 39, 4] *= -1
    assert not tflite_file.is_among_binary(kernel, filters)


def test_layers_with_no_binary_kernel_in_lce_stay_float_unless_strict(tmp_path):
    binary = {"input_quantizer": "ste_sign", "padding": "same"}
    sign = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    depthwise = {"depthwise_quantizer": "ste_sign", "depthwise_constraint": "weight_clip"}
    pointwise = {"pointwise_quantizer": "ste_sign", "pointwise_constraint": "weight_clip"}
    model = model_of(
        layers.Conv2D(16, 3, name="stem"),
        conv(input_quantizer=None, name="float_inputs"),
        norm(),
        conv(input_quantizer=lq.quantizers.DoReFa(2), name="two_bits"),
        norm(),
        lq.layers.QuantDepthwiseConv2D(3, name="depthwise", **binary, **depthwise),
        norm(),
        lq.layers.QuantSeparableConv2D(8, 3, name="separable", **binary, **depthwise, **pointwise),
        norm(),
        lq.layers.QuantConv2DTranspose(8, 3, name="transposed", **binary, **sign),
        norm(),
        conv(name="conv"),
        layers.Flatten(),
        lq.layers.QuantDense(8, input_quantizer="ste_sign", name="dense", **sign),
        layers.Dense(3, name="last"),
    )  # fmt: skip

    report = export(model, tmp_path, images=None)

    assert {layer.name: layer.reason for layer in report.layers} == {
        "stem": "no quantizers",
        "float_inputs": "float inputs",
        "two_bits": "inputs of 2 bits",
        **dict.fromkeys(
            ["depthwise", "separable", "transposed", "dense"],
            "LCE has binary kernels for `QuantConv2D` only",
        ),
        "conv": "",
        "last": "no quantizers",
    }
    assert [name for name, what in became(report).items() if what == "LceBconv2d"] == ["conv"]
    with pytest.raises(ValueError, match="strict=True") as error:
        to_tflite(model, tmp_path / "strict.tflite", strict=True)
    named = [layer.name for layer in report.layers if f"'{layer.name}'" in str(error.value)]
    assert named == ["float_inputs", "two_bits", "depthwise", "separable", "transposed", "dense"]
    assert not (tmp_path / "strict.tflite").exists()


def test_a_sign_before_the_layer_and_nested_and_shared_layers(tmp_path):
    shared = conv(name="conv")
    inner = model_of(conv(name="conv"), norm(), shape=(6, 6, 32))
    inputs = layers.Input((6, 6, 32))
    x = norm()(shared(inputs))
    x = lq.quantizers.SteSign()(norm()(inner(shared(x))))
    x = conv(input_quantizer=None, name="signed")(x)
    report = export(tf.keras.Model(inputs, x), tmp_path)
    assert report.ops["LceBconv2d"] == 4
    assert became(report) == dict.fromkeys(["conv", "conv#2", "signed"], "LceBconv2d")
    assert report.same_images == 1


@lq.utils.register_keras_custom_object
class Threshold(lq.quantizers.Quantizer):
    """A sign with a learned threshold for each channel, as in ReActNet."""

    def build(self, shape):
        self.threshold = self.add_weight(
            name="threshold", shape=shape[-1:], initializer=tf.keras.initializers.RandomNormal()
        )

    def call(self, x):
        return lq.math.sign(x - self.threshold)


def test_input_quantizers_may_have_thresholds(tmp_path):
    report = export(model_of(conv(input_quantizer=Threshold(), name="conv"), norm()), tmp_path)
    assert became(report) == {"conv": "LceBconv2d"}
    assert report.same_images == 1


def test_a_model_that_learned_its_input_shape_from_data(tmp_path):
    model = tf.keras.Sequential([conv(name="conv"), norm()])
    model(np.zeros((2, 6, 6, 32), np.float32))
    report = to_tflite(model, tmp_path / "net.tflite")
    assert became(report) == {"conv": "LceBconv2d"}


class AddsAMap(layers.Layer):
    """Adds a constant for each place, which LCE mistakes for one of each channel."""

    def call(self, x):
        values = np.random.default_rng(0).normal(size=x.shape[1:]) * 30
        return x + tf.constant(values, tf.float32)


def test_disagreement_is_an_error_on_images_and_a_figure_on_noise(tmp_path):
    model = model_of(conv(), AddsAMap(), conv())
    with pytest.raises(ValueError, match=r"(?s)relative error of \d.*leave out `images`"):
        export(model, tmp_path)
    assert not list(tmp_path.iterdir())
    report = export(model, tmp_path, images=None)
    assert report.noise
    assert report.relative_error > 0.1


def test_what_the_interpreter_refuses_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="interpreter must be able to run the file"):
        export(model_of(conv(), AddsAMap()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_is_json_and_readable(tmp_path):
    report = export(
        model_of(conv(name="conv"), layers.Dense(3, name="last")), tmp_path, images=None
    )
    figures = json.loads(json.dumps(report.as_dict()))
    assert figures["layers"][0]["became"] == "LceBconv2d"
    assert figures["ops"] == report.ops
    text = str(report)
    assert "conv" in text and "no quantizers" in text
    assert f"{report.size} bytes" in text and "1 LceBconv2d" in text
    assert "On 4 images of noise" in text


def test_the_model_is_left_alone(tmp_path):
    model = model_of(SKSConv2D(8, 3, num_codewords=4, input_quantizer="ste_sign"), norm())
    before, config = model.get_weights(), model.get_config()
    export(model, tmp_path)
    assert model.get_config() == config
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def two_inputs():
    inputs = [layers.Input((4, 4, 3)), layers.Input((4, 4, 3))]
    return tf.keras.Model(inputs, layers.add(inputs))


factor = tf.Variable(2.0)


class TimesAVariable(layers.Layer):
    """Uses a variable that no layer owns, which cannot be saved."""

    def call(self, x):
        return x * factor


@pytest.mark.parametrize(
    "model, options, message",
    [
        (two_inputs, {}, "one input and one output. Received: 2 inputs"),
        (lambda: tf.keras.Sequential([conv()]), {}, "not built"),
        (
            lambda: model_of(conv(), shape=(None, None, 3)),
            {},
            r"known size.*\(None, None, None, 3\)",
        ),
        (
            lambda: model_of(layers.ReLU(dtype="float16"), layers.ReLU(dtype="float32")),
            {},
            "float32. Received: float16",
        ),
        (lambda: model_of(conv()), {"images": np.zeros((2, 4, 4, 3))}, r"of shape \(6, 6, 32\)"),
        (lambda: model_of(conv()), {"images": np.zeros((0, 6, 6, 32))}, "one or more images"),
        (
            lambda: model_of(conv()),
            {"path": "no/such/folder/net.tflite"},
            "in a folder that exists",
        ),
        (
            lambda: model_of(layers.Lambda(lambda x: tf.linalg.svd(x, compute_uv=False))),
            {},
            "interpreter must be able to run the file",
        ),
        (lambda: model_of(TimesAVariable()), {}, "what LCE can convert. Received: .*untracked"),
    ],
)
def test_wrong_arguments(model, options, message, tmp_path):
    options = {"path": tmp_path / "net.tflite", **options}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        to_tflite(model(), **options)
    assert not list(tmp_path.iterdir())


def binary_convolutions(model):
    """Counts the `QuantConv2D` with inputs of 1 bit by their quantizers, not as the library does."""
    return sum(
        isinstance(layer, lq.layers.QuantConv2D) and getattr(layer.input_quantizer, "precision", 32) == 1
        for layer in model._flatten_layers()
    )  # fmt: skip


ZOO = [
    "QuickNetSmall", "QuickNet", "QuickNetLarge", "BinaryAlexNet", "BinaryDenseNet28",
    "BinaryDenseNet37", "BinaryDenseNet37Dilated", "BinaryDenseNet45", "BinaryResNetE18", "BiRealNet",
    "DoReFaNet", "MeliusNet22", "RealToBinaryNet", "XNORNet",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [ZOO[0], *(pytest.param(name, marks=pytest.mark.slow) for name in ZOO[1:])]
)
def test_networks_of_larq_zoo(name, tmp_path):
    make = getattr(lqz.sota, name, None) or getattr(lqz.literature, name)
    model = make(weights=None)
    report = export(model, tmp_path, images=None)
    assert report.ops.get("LceBconv2d", 0) == binary_convolutions(model)
    assert Counter(became(report).values())["LceBconv2d"] == binary_convolutions(model)
    assert binary_convolutions(model) == 0 or name != "DoReFaNet"


def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    guide = Path(__file__).parents[2] / "docs" / "guides" / "deploy.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    exec("".join(blocks), {})
    assert "6 LceBconv2d" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"plain.keras", "net.tflite"}
