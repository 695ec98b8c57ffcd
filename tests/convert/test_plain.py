import subprocess
import sys
import textwrap

import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf

import larq_sks_zoo as zoo
from larq_sks.convert import sparsify, to_larq
from larq_sks.layers import (
    SKSConv2D,
    SKSConv2DTranspose,
    SKSDense,
    SKSDepthwiseConv2D,
    SKSSeparableConv2D,
    sparse_kernels,
)
from larq_sks.quantizers import SparseKernelSign
from larq_sks.selections import Fixed, Permutation

layers = tf.keras.layers


def images(count=3, size=8, channels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def every_kind():
    """Each layer class, kind of selection and way to a `SparseKernelSign`; layers that stay as they are."""
    sign = dict(input_quantizer="ste_sign")
    image = layers.Input((8, 8, 8))
    shared = SKSConv2D(8, 3, num_codewords=4, padding="same", name="shared", **sign)
    x = layers.Add()([shared(image), shared(shared(image))])
    x = SKSConv2D(
        16, 5, num_codewords=16, padding="same", pad_values=1.0, use_bias=False, name="conv", **sign
    )(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = SKSDepthwiseConv2D(
        3, num_codewords=7, selection=Fixed(seed=1), clip_value=1.25, name="depthwise", **sign
    )(x)
    x = SKSSeparableConv2D(
        24,
        3,
        depthwise_num_codewords=4,
        pointwise_num_codewords=5,
        pointwise_codeword_shape=(1, 1, 4),
        name="separable",
        **sign,
    )(x)
    x = SKSConv2DTranspose(8, 3, num_codewords=512, name="transpose", **sign)(x)
    scaled = SparseKernelSign(9, Permutation(noise=0.5), scale=True)
    inner = tf.keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            lq.layers.QuantConv2D(8, 3, kernel_quantizer=SparseKernelSign(4), name="conv", **sign),
            lq.layers.QuantConv2D(
                8, 3, kernel_quantizer=scaled, activation="relu", name="scaled", **sign
            ),
            lq.layers.QuantConv2D(8, 1, kernel_quantizer="approx_sign", name="other"),
        ],
        name="inner",
    )
    x = layers.PReLU(name="prelu")(layers.Flatten()(inner(x)))
    x = SKSDense(16, num_codewords=6, codeword_shape=(4,), name="dense", **sign)(x)
    model = tf.keras.Model(image, layers.Dense(3, name="top")(x), name="every_kind")
    rng = np.random.default_rng(4)
    for weight in model.trainable_weights:
        weight.assign_add(rng.uniform(0, 0.3, weight.shape))
    for kernel in sparse_kernels(model):
        if kernel.name == "shared":
            kernel.quantizer.selection.phase = "whole"
    model(images(), training=True)  # the selections move to what their logits say by now
    return model


def quantised(model):
    with lq.context.quantized_scope(True):
        return [w.numpy() for w in model.weights if "kernel:0" in w.name]


def test_every_kind_of_layer_becomes_its_twin_and_computes_the_same():
    model = every_kind()
    assert len(sparse_kernels(model)) == 9
    before = model.get_weights()
    plain = to_larq(model)
    np.testing.assert_array_equal(model(images()), plain(images()))
    assert np.std(plain(images())) > 0.1
    assert "sks" not in plain.to_json() and "SparseKernel" not in plain.to_json()
    assert plain.name == "every_kind" and plain.optimizer is None
    pairs = list(zip(model.layers, plain.layers, strict=True))
    pairs += zip(model.get_layer("inner").layers, plain.get_layer("inner").layers, strict=True)
    for old, new in pairs:
        assert type(new).__name__ == type(old).__name__.replace("SKS", "Quant")
        assert new.name == old.name and new.dtype_policy.name == old.dtype_policy.name
    for first, second in zip(quantised(model), quantised(plain), strict=True):
        np.testing.assert_array_equal(first, second)
    # The constant kernels themselves, outside the layers' scope.
    constant = {layer.name: layer for layer in plain._flatten_layers() if hasattr(layer, "kernel")}
    assert set(np.unique(constant["shared"].kernel)) == {-1, 1}
    assert constant["scaled"].kernel_quantizer is None
    assert type(constant["other"].kernel_quantizer) is lq.quantizers.ApproxSign
    assert plain.get_layer("depthwise").depthwise_quantizer.clip_value == 1.25
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_loads_where_larq_sks_was_never_imported(tmp_path):
    """In a process of its own, from .keras and H5."""
    models = {"kinds": (every_kind(), images()), "zoo": (zoo.ResNet8(num_codewords=32), None)}
    pictures, _ = zoo.load_cifar10_sample()[1]
    models["zoo"] = (models["zoo"][0], zoo.preprocess_input(pictures[:3]))
    for name, (model, inputs) in models.items():
        plain = to_larq(model)
        plain.save(tmp_path / f"{name}.keras")
        plain.save(tmp_path / f"{name}.h5")
        np.savez(tmp_path / f"{name}.npz", inputs=inputs, outputs=model(inputs))
    code = """
        import sys
        from pathlib import Path
        import larq
        import numpy as np
        import tensorflow as tf

        files = [path for path in Path(sys.argv[1]).iterdir() if path.suffix in (".keras", ".h5")]
        for path in files:
            expected = np.load(path.with_suffix(".npz"))
            outputs = tf.keras.models.load_model(path)(expected["inputs"])
            np.testing.assert_array_equal(outputs, expected["outputs"])
        assert "larq_sks" not in sys.modules and "larq_sks_zoo" not in sys.modules
        print(len(files), "files")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0 and "4 files" in result.stdout, result.stderr


def test_half_precision_computes_the_same():
    before = tf.keras.mixed_precision.global_policy()
    try:
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
        model = tf.keras.Sequential(
            [
                layers.Input((8, 8, 8)),
                SKSConv2D(8, 3, num_codewords=512, input_quantizer="ste_sign"),
                SKSConv2D(8, 3, num_codewords=5, input_quantizer="ste_sign"),
                lq.layers.QuantConv2D(4, 3, kernel_quantizer=SparseKernelSign(9, scale=True)),
            ]
        )
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    for kernel in sparse_kernels(model):
        latent = kernel.latent()
        latent.flat[::5] = -1e-9  # 0 in half precision, hence +1
        kernel.layer.kernel.assign(latent)
    kernel.quantizer.multiplier.assign([0.1, 1 / 3, 1.7, 2.9])
    plain = to_larq(model)
    assert plain(images()).dtype == tf.float16
    np.testing.assert_array_equal(model(images()), plain(images()))


def test_a_sparsified_network_stays_the_same():
    sparse = sparsify(networks.resnet8(), 32)
    pictures = zoo.preprocess_input(zoo.load_cifar10_sample()[1][0][:20])
    np.testing.assert_array_equal(sparse(pictures), to_larq(sparse)(pictures))


@pytest.mark.skipif(not networks.XNOR.exists(), reason="the shared XNOR-Net VGG16 is not here")
def test_a_trained_network_with_scales_stays_the_same():
    sparse = sparsify(networks.xnor_vgg16(), 32, "fixed", start="frequent")
    inputs = networks.xnor_inputs(networks.cifar10_test(10)[0])
    plain = to_larq(sparse)
    np.testing.assert_array_equal(sparse(inputs), plain(inputs))


def test_networks_without_codewords_are_copied():
    model = tf.keras.Sequential(
        [layers.Input((4,)), lq.layers.QuantDense(3, kernel_quantizer="ste_sign")]
    )
    plain = to_larq(model)
    assert plain is not model
    np.testing.assert_array_equal(model(np.eye(4)), plain(np.eye(4)))
    np.testing.assert_array_equal(model.get_weights()[0], plain.get_weights()[0])  # latent


@tf.keras.utils.register_keras_serializable("tests")
class Derived(SKSConv2D):
    pass


def wrapped():
    inside = SKSConv2D(8, 3, num_codewords=4, name="inside")
    return tf.keras.Sequential([layers.Input((2, 8, 8, 8)), layers.TimeDistributed(inside)])


def sharing():
    quantizer = SparseKernelSign(4)
    convs = [lq.layers.QuantConv2D(8, 3, kernel_quantizer=quantizer, name=name) for name in "ab"]
    return tf.keras.Sequential([layers.Input((8, 8, 8)), *convs])


@pytest.mark.parametrize(
    "model, message",
    [
        (
            lambda: tf.keras.Sequential([layers.Input((8, 8, 8)), Derived(8, 3, name="mine")]),
            "'mine' has no twin in plain Larq.*`Derived`.*derive from Larq's",
        ),
        (wrapped, "Layer 'inside' cannot be replaced.*inside another layer, such as a wrapper"),
        (sharing, "layers 'a' and 'b' with one quantizer"),
        (lambda: tf.keras.Sequential([layers.Dense(3)]), "`model` must have weights"),
    ],
    ids=["derived", "wrapper", "shared quantizer", "not built"],
)
def test_what_has_no_plain_form_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        to_larq(model())
