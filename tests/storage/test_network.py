import os
import random
import signal
import subprocess
import sys
import time

import fuzz
import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks import _files, storage
from larq_sks.storage import FormatError, compression, container, kernels, manifest

layers = tf.keras.layers


@pytest.fixture(autouse=True)
def _seeded():
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(0)


def trained(model, seed=0):
    """Gives weights the values of a network that has seen data: none at its start, variances above 0."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype == tf.float32 and not any(
            part in weight.name for part in ("logit_scale", "temperature", "noise")
        ):
            noise = generator.normal(size=weight.shape)
            noise = np.exp(noise) if "variance" in weight.name else 0.3 * noise
            weight.assign(weight + noise.astype(np.float32))
    return model


def inputs_for(model, seed=1):
    shape = [size or 2 for size in model.input_shape]
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def round_trip(model, path, custom_objects=None, **arguments):
    storage.save(model, path, custom_objects=custom_objects, **arguments)
    return storage.load(path, custom_objects=custom_objects)


def assert_equal_outputs(model, loaded):
    images = inputs_for(model)
    for expected, found in zip(
        tf.nest.flatten(model(images, training=False)),
        tf.nest.flatten(loaded(images, training=False)),
    ):
        np.testing.assert_array_equal(found, expected)


def binary(**options):
    return dict(
        padding="same", pad_values=1.0, input_quantizer="ste_sign", use_bias=False, **options
    )


def functional():
    image = layers.Input((8, 8, 8))
    x = sks.layers.SKSConv2D(16, 3, num_codewords=8, **binary())(image)
    x = layers.BatchNormalization()(x)
    y = lq.layers.QuantConv2D(
        16, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", **binary()
    )(x)
    x = layers.PReLU(tf.keras.initializers.Constant(0.25), shared_axes=[1, 2])(1.0 - (x + 0.5 * y))
    x = tf.concat([x[:, ::2, :, 8:], tf.nn.avg_pool2d(x, (1, 2), 1, "SAME")[:, 1::2, ..., :8]], -1)
    return tf.keras.Model(image, [layers.Dense(5, "softmax")(layers.Flatten()(x)), x])


def all_layers():
    return tf.keras.Sequential(
        [
            sks.layers.SKSConv2D(16, 1, num_codewords=8, input_shape=(8, 8, 8)),
            sks.layers.SKSDepthwiseConv2D(3, num_codewords=4, selection="fixed"),
            sks.layers.SKSSeparableConv2D(
                16, 3, depthwise_num_codewords=4, pointwise_num_codewords=200
            ),
            layers.BatchNormalization(),
            sks.layers.SKSConv2DTranspose(8, 3, num_codewords=512),
            lq.layers.QuantConv2DTranspose(8, 3, kernel_quantizer="approx_sign"),
            lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="ste_sign"),
            lq.layers.QuantSeparableConv2D(
                5, 2, depthwise_quantizer="swish_sign", pointwise_quantizer="ste_sign"
            ),
            lq.layers.QuantConv2D(8, 5, padding="same", kernel_quantizer="ste_tern"),
            layers.Activation(lq.quantizers.SteSign()),
            layers.Flatten(),
            sks.layers.SKSDense(8, num_codewords=31),
            lq.layers.QuantDense(
                6, kernel_quantizer=sks.quantizers.SparseKernelSign(5, "fixed", scale=True)
            ),
            lq.layers.QuantDense(3, kernel_quantizer=lq.quantizers.DoReFa(2, mode="weights")),
        ]
    )


def nested():
    """Layers and models that are called twice, and a model of a class of its own."""

    class Block(tf.keras.Model):
        pass

    start = layers.Input((8, 8, 8))
    inner = Block(
        start, lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", **binary())(start)
    )
    tail = tf.keras.Sequential([layers.Input((8, 8, 8)), layers.BatchNormalization()])
    image = layers.Input((8, 8, 8))
    conv = sks.layers.SKSConv2D(8, 3, num_codewords=16, **binary())
    x = conv(inner(conv(image)))
    x = layers.GlobalAveragePooling2D()(layers.Add()([tail(x), inner(x)]))
    return tf.keras.Model(image, layers.Dense(3)(x))


MODELS = {"functional": functional, "all layers": all_layers, "nested": nested}


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_weights_come_back(name, latent, tmp_path):
    model = trained(MODELS[name]())
    loaded = round_trip(model, tmp_path / "net.sks", latent=latent)
    assert_equal_outputs(model, loaded)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    # Inside the scope Larq gives quantised kernels; selections change where latent weights are not kept.
    with lq.context.quantized_scope(True):
        pairs = list(zip(own_weights(model), own_weights(loaded), strict=True))
        assert pairs
        for weight, other in pairs:
            np.testing.assert_array_equal(other.numpy(), weight.numpy())


def own_weights(model):
    return [
        weight
        for layer in model._flatten_layers()
        if not isinstance(layer, sks.selections.Selection)
        for weight in layer._trainable_weights + layer._non_trainable_weights
    ]


@pytest.mark.parametrize("name", MODELS)
def test_the_same_network_is_the_same_bytes(name, tmp_path):
    files = []
    for _ in range(2):
        tf.keras.backend.clear_session()
        tf.keras.utils.set_random_seed(3)
        storage.save(trained(MODELS[name]()), tmp_path / "net.sks")
        files.append((tmp_path / "net.sks").read_bytes())
        storage.save(storage.load(tmp_path / "net.sks"), tmp_path / "again.sks")
        files.append((tmp_path / "again.sks").read_bytes())
    assert len(set(files)) == 1


@pytest.mark.parametrize("latent", [False, True])
def test_a_trained_network_keeps_its_answers(latent, tmp_path):
    model = networks.resnet8()
    images = zoo.preprocess_input(zoo.load_cifar10_sample()[1][0][:200])
    loaded = round_trip(model, tmp_path / "net.sks", latent=latent)
    np.testing.assert_array_equal(loaded(images), model(images))


def test_mixed_precision_comes_back(tmp_path):
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = tf.keras.Sequential(
            [
                sks.layers.SKSConv2D(16, 3, num_codewords=8, input_shape=(8, 8, 16)),
                lq.layers.QuantConv2D(
                    16, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
                ),
                layers.BatchNormalization(),
            ]
        )
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    for layer in trained(model).layers[:2]:
        # In float16 this is 0, and a positive sign.
        layer.kernel.assign(
            tf.where(tf.random.uniform(layer.kernel.shape) < 0.3, -1e-9, layer.kernel)
        )
    for latent in (False, True):
        loaded = round_trip(model, tmp_path / "net.sks", latent=latent)
        assert loaded.layers[0].dtype_policy.name == "mixed_float16"
        assert_equal_outputs(model, loaded)


# Keras says so of QuickNet's initializer, a function, which is not stored.
@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning")
def test_a_network_of_larq_zoo_comes_back(tmp_path):
    larq_zoo = pytest.importorskip("larq_zoo")
    model = trained(larq_zoo.sota.QuickNetSmall(weights=None, input_shape=(64, 64, 3)))
    assert_equal_outputs(model, round_trip(model, tmp_path / "net.sks"))


class TestSelections:
    def permutation(self, **options):
        model = tf.keras.Sequential(
            [sks.layers.SKSConv2D(16, 3, num_codewords=8, input_shape=(8, 8, 16), **options)]
        )
        return model, model.layers[0].kernel_quantizer

    def test_a_learned_selection_becomes_a_fixed_one(self, tmp_path):
        model, quantizer = self.permutation()
        loaded = round_trip(trained(model), tmp_path / "net.sks").layers[0].kernel_quantizer
        assert type(loaded.selection) is sks.selections.Fixed
        assert set(loaded.selected()) == set(quantizer.selected())

    def test_the_first_phase_becomes_the_whole_codebook(self, tmp_path):
        model, quantizer = self.permutation()
        quantizer.selection.phase = "whole"
        loaded = round_trip(trained(model), tmp_path / "net.sks")
        assert_equal_outputs(model, loaded)
        assert loaded.layers[0].kernel_quantizer.num_codewords == 512
        kept = round_trip(model, tmp_path / "net.sks", latent=True)
        assert_equal_outputs(model, kept)
        assert kept.layers[0].kernel_quantizer.selection.phase == "whole"

    def test_latent_weights_and_logits_are_kept_in_float16(self, tmp_path):
        model, quantizer = self.permutation(selection=sks.selections.Permutation(0.7, 0.1, seed=5))
        trained(model)
        quantizer.selection.temperature = 0.3
        quantizer.selection.logit_scale = 2.0
        model(inputs_for(model), training=True)
        loaded = round_trip(model, tmp_path / "net.sks", latent=True)
        selection, other = quantizer.selection, loaded.layers[0].kernel_quantizer.selection
        assert type(other) is sks.selections.Permutation
        assert other.get_config() == {**selection.get_config(), "name": other.name}
        for name in ("indices", "temperature", "noise", "logit_scale", "phase"):
            np.testing.assert_array_equal(getattr(other, name), getattr(selection, name))
        np.testing.assert_array_equal(other._draws, selection._draws)
        np.testing.assert_allclose(other._logits, selection._logits, rtol=2**-11, atol=2**-24)
        kernel, kept = model.layers[0].kernel.numpy(), loaded.layers[0].kernel.numpy()
        np.testing.assert_allclose(kept, kernel, rtol=2**-11, atol=2**-24)
        loaded.compile("sgd", "mse")
        images = inputs_for(loaded)
        loaded.fit(images, loaded(images), verbose=0)

    def test_rounding_changes_no_codeword(self, tmp_path):
        # Blocks between two codewords, negative weights that float16 rounds to 0, and beyond its range.
        model, quantizer = self.permutation(selection=sks.selections.Fixed(seed=1))
        kernel = model.layers[0].kernel
        generator = np.random.default_rng(0)
        codewords = quantizer.selection.codewords().numpy()
        pairs = codewords[generator.integers(8, size=(2, 256))]
        blocks = pairs.mean(0).T + 1e-5 * generator.normal(size=(9, 256))
        blocks[:, ::5] *= 1e-9
        blocks[:, 1::5] *= 1e9
        kernel.assign(blocks.reshape(kernel.shape))
        plain = lq.layers.QuantConv2D(16, 3, kernel_quantizer="ste_sign")
        model.add(plain)
        plain.kernel.assign(plain.kernel * 1e-7)
        loaded = round_trip(model, tmp_path / "net.sks", latent=True)
        assert np.any(np.float16(plain.kernel.numpy()) == 0)
        assert_equal_outputs(model, loaded)


class TestFloats:
    @pytest.mark.parametrize("form, size", [("float16", 0.55), ("int8", 0.45)])
    def test_rounded_weights_are_smaller_and_the_error_is_told(self, form, size, tmp_path):
        model = trained(
            tf.keras.Sequential(
                [
                    layers.Conv2D(32, 3, input_shape=(8, 8, 16)),
                    layers.BatchNormalization(),
                    layers.PReLU(shared_axes=[1, 2]),
                    layers.GlobalAveragePooling2D(),
                    layers.Dense(10),
                ]
            )
        )
        exact = storage.save(model, tmp_path / "exact.sks")
        report = storage.save(model, tmp_path / "net.sks", floats=form)
        assert report.size < size * exact.size and not exact.errors
        loaded = storage.load(tmp_path / "net.sks")
        for weight, other in zip(model.weights, loaded.weights):
            expected, found = weight.numpy(), other.numpy()
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error == pytest.approx(report.errors.get(weight.name, 0.0), rel=1e-5)
            assert error <= (2**-11 if form == "float16" else 0.5 / 127) * 1.001
            if form == "int8":  # batch norm, biases and slopes stay exact
                assert (error == 0) == ("kernel" not in weight.name)
        assert f"{len(report.errors)} weights rounded, at worst by" in str(report)

    @pytest.mark.parametrize("form", ["float16", "int8"])
    @pytest.mark.parametrize("value", [1e30, np.nan, np.inf, 1e-9, 0.0])
    def test_what_does_not_survive_rounding_stays_exact(self, form, value, tmp_path):
        model = tf.keras.Sequential([layers.Dense(3, input_shape=(16,)), layers.Dense(2)])
        model.layers[0].kernel.assign(np.full((16, 3), value, np.float32))
        loaded = round_trip(model, tmp_path / "net.sks", floats=form)
        np.testing.assert_allclose(loaded.layers[0].kernel, model.layers[0].kernel, rtol=1e-6)
        np.testing.assert_array_equal(loaded.layers[1].bias, model.layers[1].bias)

    def test_integers_and_other_floats_come_back(self, tmp_path):
        normalize = layers.Normalization(dtype="float64", input_shape=(4,))
        normalize.adapt(np.random.default_rng(0).normal(size=(9, 4)))
        model = tf.keras.Sequential([normalize, layers.Dense(3, dtype="float16")])
        assert {weight.dtype.name for weight in model.weights} == {"float16", "float64", "int64"}
        loaded = round_trip(model, tmp_path / "net.sks")
        data = np.random.default_rng(1).normal(size=(5, 4))
        np.testing.assert_array_equal(model(data), loaded(data))
        for weight, other in zip(model.weights, loaded.weights):
            assert weight.dtype == other.dtype
            np.testing.assert_array_equal(other, weight)

    def test_other_forms_are_refused(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"`floats` must be one of .*Received: floats='bfloat16'"
        ):
            storage.save(functional(), tmp_path / "net.sks", floats="bfloat16")


class Doubling(layers.Layer):
    """A layer that no file may name without being told."""

    def call(self, inputs):
        return 2.0 * inputs


class SignedLayer(layers.Layer):
    """Holds another layer, as wrappers do."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = tf.keras.layers.deserialize(layer) if isinstance(layer, dict) else layer

    def build(self, shape):
        self.layer.build(shape)
        self.built = True

    def call(self, inputs):
        return self.layer(inputs)

    def get_config(self):
        return {**super().get_config(), "layer": tf.keras.layers.serialize(self.layer)}


def triple(x):
    return 3.0 * x


def threshold_sign(x):
    return tf.where(x > 0.05, 1.0, -1.0)


class TestCustomObjects:
    def network(self):
        image = layers.Input((4, 4, 8))
        x = Doubling()(image)
        x = SignedLayer(layers.Dense(8))(x)
        x = layers.Activation(triple)(x)
        x = lq.layers.QuantConv2D(8, 3, kernel_quantizer=threshold_sign)(x)
        return tf.keras.Model(image, tf.math.erf(tf.reverse(x, [1])))

    objects = {
        "Doubling": Doubling,
        "SignedLayer": SignedLayer,
        "triple": triple,
        "threshold_sign": threshold_sign,
        "reverse": tf.reverse,
    }

    @pytest.mark.parametrize("latent", [False, True])
    def test_they_are_allowed_when_given(self, latent, tmp_path):
        model = trained(self.network())
        loaded = round_trip(model, tmp_path / "net.sks", self.objects, latent=latent)
        assert_equal_outputs(model, loaded)

    @pytest.mark.parametrize("name", objects)
    def test_each_is_refused_by_name_without(self, name, tmp_path):
        path = tmp_path / "net.sks"
        known = {key: value for key, value in self.objects.items() if key != name}
        with pytest.raises(ValueError, match=rf"custom_objects`.*Received: .*{name}"):
            storage.save(self.network(), path, custom_objects=known)
        assert not path.exists()
        storage.save(self.network(), path, custom_objects=self.objects)
        with pytest.raises(FormatError, match=name):
            storage.load(path, custom_objects=known)


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


class Dense(layers.Dense):
    """Has a name of Keras'."""


class TestRefused:
    def check(self, model, match, tmp_path, error=ValueError):
        with pytest.raises(error, match=match):
            storage.save(model, tmp_path / "net.sks")
        assert not list(tmp_path.iterdir())

    def test_subclassed(self, tmp_path):
        model = Subclassed()
        model(tf.zeros((1, 2)))
        self.check(model, "functional or sequential model.*Received: 'subclassed'", tmp_path)

    def test_a_layer_in_two_models(self, tmp_path):
        shared = layers.Dense(2, name="shared")
        inner = tf.keras.Sequential([layers.Input((2,)), shared])
        image = layers.Input((2,))
        model = tf.keras.Model(image, shared(inner(image)))
        self.check(model, "must belong to one model only.*layer 'shared'", tmp_path)

    def test_what_keras_cannot_make_again(self, tmp_path):
        # On the way back from JSON the constant becomes a float32 tensor.
        image = layers.Input((2,))
        x = layers.Dense(2, dtype="mixed_float16")(image)
        self.check(
            tf.keras.Model(image, 1.0 - x), "must be one that Keras can make again", tmp_path
        )

    def test_not_built(self, tmp_path):
        self.check(tf.keras.Sequential([layers.Dense(3)]), "not built. Call it on data", tmp_path)

    @pytest.mark.parametrize("model", ["net.sks", None, layers.Dense(3)])
    def test_no_model(self, model, tmp_path):
        self.check(model, "`model` must be a functional or sequential model", tmp_path)

    def test_a_selection_in_a_layer_of_ones_own(self, tmp_path):
        layer = SignedLayer(sks.layers.SKSDense(8, num_codewords=4), input_shape=(8,))
        model = tf.keras.Sequential([layer])
        objects = {"SignedLayer": SignedLayer}
        with pytest.raises(ValueError, match="Save with `latent=True`"):
            storage.save(model, tmp_path / "net.sks", custom_objects=objects)
        loaded = round_trip(model, tmp_path / "net.sks", objects, latent=True)
        assert_equal_outputs(model, loaded)

    def test_lambda(self, tmp_path):
        model = tf.keras.Sequential([layers.Lambda(abs, input_shape=(3,), name="code")])
        self.check(model, "holds no code.*in layer 'code'", tmp_path)

    def test_a_class_with_a_name_of_keras(self, tmp_path):
        model = tf.keras.Sequential([Dense(3, input_shape=(2,))])
        self.check(model, r"Received: class '.*\.Dense'", tmp_path)

    @pytest.mark.parametrize(
        "quantizer", ["magnitude_aware_sign", lq.quantizers.MagnitudeAwareSign()]
    )
    def test_a_multiplier_that_is_computed(self, quantizer, tmp_path):
        layer = lq.layers.QuantConv2D(
            4, 3, kernel_quantizer=quantizer, input_shape=(4, 4, 8), name="scaled"
        )
        self.check(
            tf.keras.Sequential([layer]),
            r"MagnitudeAwareSign in layer 'scaled'.*sparsify",
            tmp_path,
        )

    def test_no_number(self, tmp_path):
        model = tf.keras.Sequential([sks.layers.SKSDense(3, num_codewords=2, input_shape=(8,))])
        model.layers[0].kernel.assign(np.full((8, 3), np.nan))
        self.check(model, "must be finite", tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(ValueError, match="`path` must be in a folder that exists"):
            storage.save(functional(), tmp_path / "none" / "net.sks")

    @pytest.mark.parametrize("name", ["net.h5", "net.keras", "net.tflite"])
    def test_names_of_other_formats(self, name, tmp_path):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ValueError, match="End it in .sks"):
            storage.save(functional(), tmp_path / name)
        assert (tmp_path / name).read_text() == "precious"

    def test_no_file(self, tmp_path):
        for read in (storage.load, storage.describe):
            with pytest.raises(FileNotFoundError):
                read(tmp_path / "none.sks")


def hostile(path, change):
    """Writes a file with another manifest or other sections under right checksums."""
    _, sections = container.unpack(path.read_bytes())
    sections = compression.unfold(sections, {})
    content = manifest.unpack(sections.pop("architecture"))
    content = change(content, sections) or content
    path.write_bytes(container.pack({**sections, "architecture": manifest.pack(content)}))


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    path = tmp_path_factory.mktemp("honest") / "net.sks"
    storage.save(functional(), path)
    return path


def set_kernel(place, value):
    def change(content, sections):
        content["kernels"][0][place] = value

    return change


def set_dense(**options):
    def change(content, sections):
        content["model"]["config"]["layers"][-1]["config"].update(options)

    return change


def set_section(name, values):
    def change(content, sections):
        sections[name] = values(sections[name]) if name in sections else values(np.zeros(0))

    return change


HOSTILE = {
    "10^9 units": set_dense(units=10**9),
    "10^12 units": set_dense(units=10**12),
    "no units": set_dense(units=0),
    "units below 0": set_dense(units=-3),
    "half a unit": set_dense(units=2.5),
    "other units": set_dense(units=4),
    "unknown option": set_dense(secret=1),
    "kernel of another name": set_kernel(0, "nobody"),
    "kernel of another shape": set_kernel(1, [3, 3, 16, 8]),
    "kernel without weights": set_kernel(1, [3, 3, 0, 16]),
    "huge kernel": set_kernel(1, [3, 3, 2**20, 2**20]),
    "kernel of many axes": set_kernel(1, [720720] * 9),
    "blocks of many axes": lambda content, sections: content["kernels"].append(
        ["x", [720720] * 100_000, [1] * 100_000, 2, 1]
    ),
    "two kernels of a name": lambda content, sections: content["kernels"].append(
        content["kernels"][0]
    ),
    "kernel of bools": set_kernel(1, [3, 3, True, 128]),
    "other blocks": set_kernel(2, [1, 1, 8, 1]),
    "no blocks": set_kernel(2, []),
    "other number of codewords": set_kernel(3, 9),
    "no codewords": set_kernel(3, 0),
    "too many codewords": set_kernel(3, 513),
    "half a codeword": set_kernel(3, 7.5),
    "fewer bytes": set_kernel(4, 5),
    "bytes below 0": set_kernel(4, -1),
    "no kernels": lambda content, sections: content.pop("kernels") and None,
    "kernels as text": lambda content, sections: content.update(kernels="many"),
    "no model": lambda content, sections: sections.pop("float32") is None,
    "other form": lambda content, sections: content.update(floats="int8"),
    "unknown form": lambda content, sections: content.update(floats="int3"),
    "said latent": lambda content, sections: content.update(latent=True),
    "equal codewords": set_section("codebooks", np.zeros_like),
    "more weights": set_section("float32", lambda old: np.append(old, old[:1])),
    "weights of another dtype": set_section("float32", lambda old: old.astype(np.float64)),
    "weights of two axes": set_section("float32", lambda old: old[np.newaxis]),
    "weights that are not compressed": set_section(
        "float32.lzma", lambda old: np.arange(9, dtype=np.uint8)
    ),
    "weights in two forms": set_section(
        "float32.lzma", lambda old: np.frombuffer(compression.compress(bytes(4)), np.uint8)
    ),
    "unknown section": set_section("other", lambda old: old),
    "very many kernels": lambda content, sections: content.update(
        kernels=[[f"k{i}", *content["kernels"][0][1:]] for i in range(50_000)]
    ),
    "unknown coding": set_section("indices", lambda old: np.full_like(old, 99)),
    "no indices": set_section("indices", lambda old: old[:0]),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_a_format_error_at_once(honest, case, tmp_path):
    path = tmp_path / "net.sks"
    path.write_bytes(honest.read_bytes())
    hostile(path, HOSTILE[case])
    began = time.perf_counter()
    with pytest.raises(FormatError, match="cannot be loaded") as caught:
        storage.load(path)
    assert time.perf_counter() - began < 5
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("units", [10**9, 2**31])
def test_a_huge_layer_takes_no_memory(honest, units, tmp_path):
    path = tmp_path / "net.sks"
    path.write_bytes(honest.read_bytes())
    hostile(path, set_dense(units=units))
    with pytest.raises(FormatError, match="Received: one of shape"):
        storage.load(path)


def test_every_byte_of_a_file_counts(honest, tmp_path):
    data = honest.read_bytes()
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x10
        (tmp_path / "net.sks").write_bytes(changed)
        for read in (storage.load, storage.describe):
            with pytest.raises(FormatError, match=r"net\.sks"):
                read(tmp_path / "net.sks")


def test_the_fuzzer_finds_nothing():
    outcomes = fuzz.run(1000, seed=3, deep=0.05)
    assert sum(outcomes.values()) == 1000
    assert not [outcome for outcome in outcomes if "BAD" in outcome]
    # It would be no test if nothing but broken checksums came of it.
    assert outcomes["content: FormatError"] > 10
    assert outcomes["bytes: FormatError"] > 800


def test_the_fuzzer_sees_what_goes_wrong(monkeypatch, capsys):
    def load(path):
        raise KeyError(path)

    monkeypatch.setattr(fuzz.storage, "load", load)
    assert fuzz.run(3, deep=0)["bytes: BAD KeyError"] == 3


class TestSize:
    @staticmethod
    def bound(model):
        """Adds up the order-0 entropy of the indices and the bytes of all other weights."""
        bits, binary = 0.0, 0
        for kernel in kernels.quantized_kernels(model):
            codes = kernels.encode(kernel)
            counts = np.bincount(codes.indices.reshape(-1))
            shares = counts[counts > 0] / counts.sum()
            bits -= codes.indices.size * (shares * np.log2(shares)).sum()
            binary += np.prod(codes.shape)
        selections = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, sks.selections.Selection)
        ]
        weights = {id(w) for selection in selections for w in selection.weights}
        others = sum(np.prod(w.shape) for w in model.weights if id(w) not in weights) - binary
        return bits / 8 + 4 * others

    @staticmethod
    def power_law(model, seed=0):
        """Gives kernels latent weights whose codewords are used as trained ones are: unequally."""
        generator = np.random.default_rng(seed)
        for kernel in sks.layers.sparse_kernels(model):
            chosen = generator.permutation(kernel.quantizer.selected())
            shares = 1.0 / (np.arange(len(chosen)) + 3.0)
            count = np.prod(kernel.latent().shape) // 9
            blocks = sks.codebook.to_signs(
                generator.choice(chosen, count, p=shares / shares.sum()), 9
            )
            getattr(kernel.layer, kernel.weight).assign(blocks.T.reshape(kernel.latent().shape))
        return model

    @pytest.mark.parametrize("num_codewords", [16, 32, 64, 512])
    def test_of_a_network_with_a_million_weights(self, num_codewords, tmp_path):
        x = image = layers.Input((8, 8, 64))
        for filters in (64, 128, 128, 256, 256):
            x = sks.layers.SKSConv2D(
                filters, 3, num_codewords=num_codewords, selection="fixed", **binary()
            )(x)
            x = layers.BatchNormalization()(x)
        model = self.power_law(
            tf.keras.Model(image, layers.Dense(10)(layers.GlobalMaxPooling2D()(x)))
        )
        size = storage.save(model, tmp_path / "net.sks").size
        assert size == (tmp_path / "net.sks").stat().st_size
        assert size <= 1.02 * self.bound(model)

    @pytest.mark.parametrize("num_codewords", [None, 32])
    def test_of_a_small_network(self, num_codewords, tmp_path):
        model = self.power_law(zoo.ResNet20(num_codewords=num_codewords))
        report = storage.save(model, tmp_path / "net.sks")
        assert report.size <= 1.06 * self.bound(model)
        assert report.sections["architecture"] < 1300
        assert report.size - sum(report.sections.values()) < 500


def test_the_report_and_the_description_tell_the_sizes(tmp_path):
    path = tmp_path / "net.sks"
    model = functional()
    report = storage.save(model, path, latent=True, floats="float16")
    told = storage.describe(path)
    assert told["size"] == report.size == path.stat().st_size
    assert told["sections"] == report.sections
    assert (told["version"], told["latent"], told["floats"]) == (1, True, "float16")
    first, second = told["kernels"]
    assert first["name"] == model.layers[1].name and first["shape"] == [3, 3, 8, 16]
    assert (first["codeword_shape"], first["num_codewords"]) == ([3, 3, 1, 1], 8)
    assert second["num_codewords"] == 512
    assert {kernel["name"]: kernel["bytes"] for kernel in told["kernels"]} == report.kernels
    assert told["sections"]["codebooks"] == 9
    raw = 2 * (3 * 3 * 8 * 16 + 3 * 3 * 16 * 16 + 512 * 8)
    assert raw / 32 <= told["sections"]["latent.lzma"] < raw
    table = str(report)
    assert f"{report.size:,} bytes" in table and "latent" in table and "header" in table


def fine_tuned(model, steps=25):
    """Trains on the real sample and returns the accuracy before and after on images held out."""
    tf.keras.utils.set_random_seed(0)
    (images, labels), (held_out, answers) = zoo.load_cifar10_sample()
    model.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    held_out = zoo.preprocess_input(held_out)
    before = model.evaluate(held_out, answers, verbose=0)[1]
    model.fit(zoo.augmented(images, labels, 128), steps_per_epoch=steps, verbose=0)
    return before, model.evaluate(held_out, answers, verbose=0)[1]


def test_fine_tuning_works_from_either_kind_of_file(tmp_path):
    # A trained network of which few codewords are left: much of the loss comes back in a few steps.
    parent, model = networks.resnet8(), zoo.ResNet8(num_codewords=32, selection="fixed")
    for source, layer in zip(parent.layers, model.layers):
        if isinstance(layer, sks.layers.SKSConv2D):
            layer.kernel.assign(source.kernel)
            start = sks.selections.greedy_coverage(source.kernel, 32)
            layer.kernel_quantizer.selection._indices.assign(start)
        else:
            layer.set_weights(source.get_weights())
    without = round_trip(model, tmp_path / "net.sks")
    kept = round_trip(model, tmp_path / "latent.sks", latent=True)
    before, after = fine_tuned(model)
    assert after > before + 0.05
    for loaded in (without, kept):
        found = fine_tuned(loaded)
        assert found[0] == before
        assert found[1] > after - 0.03


# Takes the module by its path: the package would bring TensorFlow, and seconds.
WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
print("ready", flush=True)
while True:
    for letter in (b"a", b"b"):
        files.write_atomically(sys.argv[2], 3_000_000 * letter)
"""


def test_a_killed_program_leaves_a_whole_file(tmp_path):
    path = tmp_path / "net.sks"
    generator = random.Random(0)
    seen = set()
    for _ in range(30):
        command = [sys.executable, "-c", WRITER, _files.__file__, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            while not path.exists():
                time.sleep(0.001)
            time.sleep(0.05 * generator.random())
            writer.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert data == 3_000_000 * data[:1]
        seen.add(data[:1])
    assert seen == {b"a", b"b"}


def test_an_old_file_stands_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.sks"
    storage.save(functional(), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        storage.save(all_layers(), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
