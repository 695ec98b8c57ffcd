"""Whole networks, converted by Larq Compute Engine: equal to its interpreter, to the last bit.

Its interpreter with XNNPACK computes the float operators between the binary ones as a stock interpreter of the
same TensorFlow does, so that all bits can be compared.
"""

from __future__ import annotations

import numpy as np
import pytest

from interpreters import ISAS, STOCK, Ours, lce
from tflite_file import read

tf = pytest.importorskip("tensorflow")
engine = pytest.importorskip("larq_compute_engine")
lq = pytest.importorskip("larq")

pytestmark = pytest.mark.skipif(
    "tensorflow" not in STOCK, reason="needs the interpreter of TensorFlow"
)


def _compare(data: bytes, convolutions: int, inputs: np.ndarray) -> None:
    names = [code.customCode for code in read(data).operatorCodes]
    binary = [i for i, name in enumerate(names) if name in (b"LceBconv2d", "LceBconv2d")]
    operators = read(data).subgraphs[0].operators
    assert sum(operator.opcodeIndex in binary for operator in operators) == convolutions
    wanted = lce(data, inputs, use_reference_bconv=True, use_xnnpack=True)
    for isa in ISAS:
        ours = Ours(data, stock="tensorflow", isa=isa)
        got = [
            np.concatenate(outputs)
            for outputs in zip(*(ours(image[np.newaxis]) for image in inputs))
        ]
        for ours_is, should_be in zip(got, wanted):
            np.testing.assert_array_equal(ours_is, should_be, strict=True)


def _randomise(model, codewords=None, seed=0) -> None:
    """Draws weights and batch norms, so that signs are not all one and outputs not all zero."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            drawn = {
                "gamma": lambda shape: rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape),
                "beta": lambda shape: rng.normal(size=shape),
                "moving_mean": lambda shape: rng.normal(size=shape),
                "moving_variance": lambda shape: rng.uniform(20, 80, shape),
            }
            weights = [drawn[v.name.split("/")[-1].split(":")[0]](v.shape) for v in layer.weights]
        elif isinstance(layer, lq.layers.QuantConv2D):
            kernel = rng.uniform(-1, 1, weights[0].shape)
            if codewords and kernel.shape[:2] == (3, 3):
                patterns = rng.choice([-0.5, 0.5], (codewords, 3, 3))
                kernel = patterns[rng.integers(codewords, size=kernel.shape[2:])].transpose(
                    2, 3, 0, 1
                )
            weights[0] = kernel
        layer.set_weights(weights)


def _conv(x, channels, size=3, **options):
    options = {"padding": "same", "pad_values": 1, **options}
    x = lq.layers.QuantConv2D(
        channels,
        size,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        use_bias=False,
        **options,
    )(x)
    return x


def _norm(x):
    return tf.keras.layers.BatchNormalization()(x)


@pytest.mark.parametrize("codewords", [pytest.param(None, marks=pytest.mark.slow), 16])
def test_a_network_of_everything(codewords):
    """Packed and float outputs, paddings, strides, dilation, pooling, a residual, a fused activation."""
    image = tf.keras.Input((19, 17, 3))
    x = _norm(tf.keras.layers.Conv2D(48, 3, padding="same")(image))
    x = _norm(_conv(x, 80))
    x = _norm(_conv(x, 40, 5, strides=2))
    x = _norm(_conv(x, 100, 1))
    x = tf.keras.layers.MaxPool2D(2)(x)
    x = _norm(_conv(x, 64, padding="valid", dilation_rate=1))
    x = tf.keras.layers.add([x, _norm(tf.keras.layers.Activation("relu")(_conv(x, 64)))])
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    model = tf.keras.Model(image, tf.keras.layers.Dense(10)(x))
    _randomise(model, codewords)
    inputs = np.random.default_rng(1).normal(size=(3, 19, 17, 3)).astype(np.float32)
    _compare(engine.convert_keras_model(model), 5, inputs)


def test_an_int8_network():
    """The int8 operators of the two interpreters are the same as well."""
    image = tf.keras.Input((16, 16, 32))
    x = _norm(_conv(image, 64))
    x = tf.keras.layers.add([x, _norm(_conv(x, 64))])
    model = tf.keras.Model(image, x)
    _randomise(model)
    with pytest.warns(UserWarning, match="experimental_default_int8_range"):
        data = engine.convert_keras_model(
            model,
            experimental_default_int8_range=(-8, 8),
            inference_input_type=tf.int8,
            inference_output_type=tf.int8,
        )
    inputs = np.random.default_rng(1).integers(-128, 128, (3, 16, 16, 32)).astype(np.int8)
    _compare(data, 2, inputs)


# Name, size of the image, and convolutions that the converter makes binary: of XNORNet all but the largest, whose scales it
# does not fold. It ends with an error on DoReFaNet ("cannot create std::vector larger than max_size()"), which has no binary
# activations.
ZOO = [
    ("QuickNetSmall", 64, 16),
    ("QuickNet", 64, 16),
    ("QuickNetLarge", 64, 32),
    ("BinaryResNetE18", 64, 16),
    ("BiRealNet", 64, 16),
    ("RealToBinaryNet", 64, 16),
    ("BinaryDenseNet28", 64, 23),
    ("BinaryDenseNet37", 64, 32),
    ("BinaryDenseNet37Dilated", 64, 32),
    ("BinaryDenseNet45", 64, 40),
    ("MeliusNet22", 64, 34),
    ("BinaryAlexNet", 224, 7),
    ("XNORNet", 224, 5),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, size, convolutions", ZOO)
def test_larq_zoo(name, size, convolutions):
    zoo = pytest.importorskip("larq_zoo")
    module = zoo.sota if name.startswith("QuickNet") else zoo.literature
    model = getattr(module, name)(input_shape=(size, size, 3), weights=None, num_classes=10)
    _randomise(model, 32)
    inputs = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    _compare(engine.convert_keras_model(model), convolutions, inputs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, codewords",
    [
        ("ResNet20", None),
        ("ResNet20", 32),
        ("QuickNetSmall32", 32),
        ("ResNet8", 8),
        ("ResNet18", 32),
        ("VGGSmall", 32),
    ],
)
def test_our_zoo(name, codewords, tmp_path):
    zoo = pytest.importorskip("larq_sks_zoo")
    import larq_sks

    weights = "cifar10" if name in ("ResNet20", "QuickNetSmall32") else None
    model = (
        getattr(zoo, name)(num_codewords=codewords, weights=weights)
        if codewords
        else getattr(zoo, name)(weights=weights)
    )
    images = zoo.preprocess_input(zoo.load_cifar10_sample()[1][0][:10])
    report = larq_sks.to_tflite(model, tmp_path / "net.tflite", None if weights is None else images)
    _compare(
        (tmp_path / "net.tflite").read_bytes(),
        report.ops["LceBconv2d"],
        np.asarray(images, np.float32),
    )
