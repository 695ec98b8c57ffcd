import re

import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import larq_sks_zoo as zoo
from larq_sks import codebook, selections
from larq_sks.convert import sparsify
from larq_sks.layers import SKSConv2D, sparse_kernels
from larq_sks.quantizers import SparseKernelSign

layers = tf.keras.layers
Fixed, Permutation = selections.Fixed, selections.Permutation


@lq.utils.register_keras_custom_object
def sign_of_function(x):
    return lq.quantizers.ste_sign(x)


@lq.utils.register_keras_custom_object
def scaled_by_channel_maximum(x):
    return tf.reduce_max(tf.abs(x), axis=[0, 1, 2], keepdims=True) * lq.quantizers.ste_sign(x)


@lq.utils.register_keras_custom_object
def scaled_by_input_channel(x):
    return tf.reduce_mean(tf.abs(x), axis=[0, 1, 3], keepdims=True) * lq.quantizers.ste_sign(x)


@lq.utils.register_keras_custom_object
def zero_for_zero(x):
    return tf.sign(x)


@lq.utils.register_keras_custom_object
def minus_one_for_zero(x):
    return tf.where(x > 0, 1.0, -1.0)


@lq.utils.register_keras_custom_object
def turned_round(x):
    return -lq.quantizers.ste_sign(x)


@tf.keras.utils.register_keras_serializable("tests")
class TrainedScale(lq.quantizers.Quantizer):
    """A quantizer with a weight of its own."""

    precision = 1

    def build(self, shape):
        self.size = self.add_weight(name="size", shape=shape[-1:], initializer="ones")

    def call(self, x):
        return self.size * lq.quantizers.ste_sign(x)


def images(count=3, size=8, channels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def one_conv(quantizer, kernel_size=3, **options):
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 8)),
            lq.layers.QuantConv2D(
                6,
                kernel_size,
                input_quantizer="ste_sign",
                kernel_quantizer=quantizer,
                kernel_constraint="weight_clip",
                name="conv",
                **options,
            ),
        ]
    )


def every_kind():
    """All kinds of Larq layers with a binary kernel, and some that shall be left alone."""
    sign = dict(input_quantizer="ste_sign")
    kernel = dict(kernel_quantizer="ste_sign", kernel_constraint="weight_clip")
    depthwise = dict(
        depthwise_quantizer=lq.quantizers.SteSign(clip_value=0.8),
        depthwise_constraint="weight_clip",
    )
    image = layers.Input((8, 8, 8))
    x = lq.layers.QuantConv2D(8, 5, padding="same", name="stem", **sign, **kernel)(image)
    x = lq.layers.QuantConv2D(
        16, 3, padding="same", pad_values=1.0, use_bias=False, name="conv", **sign, **kernel
    )(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = lq.layers.QuantDepthwiseConv2D(3, name="depthwise", **sign, **depthwise)(x)
    x = lq.layers.QuantSeparableConv2D(
        24,
        3,
        name="separable",
        pointwise_quantizer="ste_sign",
        pointwise_constraint="weight_clip",
        **sign,
        **depthwise,
    )(x)
    x = lq.layers.QuantConv2DTranspose(
        8, 3, kernel_quantizer="magnitude_aware_sign", name="transpose", **sign
    )(x)
    inner = tf.keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            lq.layers.QuantConv2D(8, 3, name="conv", **sign, **kernel),
            lq.layers.QuantConv2D(8, 3, name="float"),
        ],
        name="inner",
    )
    x = layers.Flatten()(inner(x))
    x = lq.layers.QuantDense(16, name="dense", **sign, **kernel)(x)
    x = lq.layers.QuantDense(4, name="ternary", kernel_quantizer="ste_tern")(x)
    x = layers.Dense(3, name="top")(x)
    model = tf.keras.Model(image, x, name="every_kind")
    rng = np.random.default_rng(4)
    model.set_weights([w + rng.uniform(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def blocks_of(kernel):
    return set(codebook.to_codewords(kernel.reshape(9, -1).T).tolist())


# Outputs, weights, and what is chosen


def test_the_whole_codebook_computes_the_same_in_every_kind_of_layer():
    model = every_kind()
    before = model.get_weights()
    whole = sparsify(model, 512, where=lambda layer: True)
    np.testing.assert_array_equal(model(images()), whole(images()))
    changed = {kernel.name: kernel for kernel in whole.sparsify_report.kernels if kernel.changed}
    assert set(changed) == {
        *("stem", "conv", "depthwise", "separable/depthwise", "separable/pointwise"),
        *("transpose", "conv#2", "dense"),
    }
    assert all(kernel.signs_flipped == 0 for kernel in changed.values())
    # 8 weights of 5×5 or dense kernels have 256 patterns.
    assert {name: kernel.num_codewords for name, kernel in changed.items()} == {
        **dict.fromkeys(changed, 512),
        **dict.fromkeys(["stem", "separable/pointwise", "dense"], 256),
    }
    for first, second in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_only_the_quantizers_change():
    model = every_kind()
    sparse = sparsify(model)
    assert sparse.name == "every_kind" and sparse.optimizer is None
    pairs = list(zip(model.layers, sparse.layers, strict=True))
    pairs += zip(model.get_layer("inner").layers, sparse.get_layer("inner").layers, strict=True)
    for old, new in pairs:
        assert type(old) is type(new)
        configs = [layer.get_config() for layer in (old, new)]
        different = {key for key in configs[0] if configs[0][key] != configs[1][key]}
        different -= {"layers"}  # of the nested model
        wanted = {
            "depthwise": {"depthwise_quantizer"},
            "separable": {"depthwise_quantizer"},  # its other kernel is 1×1
            "conv": {"kernel_quantizer"},
            "transpose": {"kernel_quantizer"},
        }
        assert different == wanted.get(old.name, set()), old.name
    new = [w for w in sparse.weights if "sparse_kernel_sign" not in w.name]
    for first, second in zip(model.weights, new, strict=True):
        assert first.name == second.name
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("selection", ["permutation", "fixed", Permutation(temperature=0.5)])
@pytest.mark.parametrize(
    "start, choose",
    [
        ("coverage", selections.greedy_coverage),
        ("exchanged", selections.exchanged_coverage),
        ("frequent", selections.most_frequent),
        (lambda kernel, n, shape: [7, 1, 505], lambda *_: [7, 1, 505]),
    ],
    ids=["coverage", "exchanged", "frequent", "function"],
)
def test_the_start_comes_from_the_latent_kernel(start, choose, selection):
    model = one_conv("ste_sign")
    sparse = sparsify(model, 3, selection, start)
    (kernel,) = sparse_kernels(sparse)
    latent = model.get_weights()[0]
    np.testing.assert_array_equal(kernel.latent(), latent)
    chosen = kernel.quantizer.selection
    assert type(chosen) is type(selections.get(selection))
    assert chosen.indices.tolist() == list(choose(latent, 3, (3, 3, 1, 1)))
    (report,) = sparse.sparsify_report.kernels
    # A reference for the flipped signs: each block's nearest codeword.
    rows = codebook.to_signs(chosen.indices, 9)
    nearest = rows[(rows @ latent.reshape(9, -1)).argmax(0)]
    flipped = np.mean(np.sign(latent.reshape(9, -1)) != nearest.T)
    assert report.signs_flipped == pytest.approx(flipped) and 0.05 < flipped < 0.5
    assert report.num_codewords == 3 and report.kernel_shape == (3, 3, 8, 6)


def test_without_a_start_the_selection_has_its_own():
    sparse = sparsify(one_conv("ste_sign"), 3, Fixed([2, 4, 8]), start=None)
    assert sparse_kernels(sparse)[0].quantizer.selected().tolist() == [2, 4, 8]


def test_the_same_seed_gives_the_same_network():
    def sparsified():
        tf.keras.utils.set_random_seed(3)
        return sparsify(one_conv("ste_sign"), 8, Permutation(noise=1.0)).get_weights()

    for first, second in zip(sparsified(), sparsified(), strict=True):
        np.testing.assert_array_equal(first, second)


# Quantizers are judged by what they compute


@pytest.mark.parametrize(
    "quantizer, what",
    [
        ("ste_sign", "gradient clipped at 1"),
        (lq.quantizers.SteSign(clip_value=1.25), "gradient clipped at 1.25"),
        (lq.quantizers.SteSign(clip_value=None), "gradient not clipped"),
        (
            "approx_sign",
            "gradient of `ApproxSign` replaced by the straight-through one, clipped at 1",
        ),
        (
            "swish_sign",
            "gradient of `SwishSign` replaced by the straight-through one, clipped at 1",
        ),
        (sign_of_function, "gradient of `sign_of_function` replaced .*, clipped at 1"),
        ("magnitude_aware_sign", r"gradient clipped at 1; multiplier of 0.\d+ to 0.\d+ a channel"),
        (
            scaled_by_channel_maximum,
            r"gradient of `scaled_by.*; multiplier of 0.\d+ to 0.\d+ a ch.*",
        ),
        (TrainedScale(), "gradient of `TrainedScale` .*; multiplier of 0.5 to 3 a channel"),
    ],
)
def test_signs_are_taken_with_their_scale_and_gradient(quantizer, what):
    model = one_conv(quantizer)
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 8, 6)).astype(np.float32)
    kernel.flat[::17] = 0.0
    model.layers[0].kernel.assign(0.2 * kernel)
    if isinstance(quantizer, TrainedScale):
        model.layers[0].kernel_quantizer.size.assign([0.5, 1, 1.5, 2, 2.5, 3])
    whole = sparsify(model, 512)
    np.testing.assert_array_equal(model(images()), whole(images()))
    (report,) = whole.sparsify_report.kernels
    assert report.changed
    assert re.fullmatch(f"{what}; all patterns, so the kernel computes as before", report.reason)
    new = whole.layers[0].kernel_quantizer
    assert new.scale is ("multiplier" in what)
    assert new.clip_value == getattr(model.layers[0].kernel_quantizer, "clip_value", 1.0)


@pytest.mark.parametrize(
    "quantizer",
    [
        "ste_tern",
        lq.quantizers.SteTern(threshold_value=1e-9),  # its kernel has no weight as small as that
        "ste_heaviside",
        lq.quantizers.DoReFa(2, mode="weights"),
        lq.quantizers.NoOp(precision=1),
        scaled_by_input_channel,
        zero_for_zero,
        minus_one_for_zero,
        turned_round,
    ],
)
def test_what_is_no_sign_is_left_alone(quantizer):
    model = one_conv(quantizer)
    model.add(lq.layers.QuantConv2D(4, 3, kernel_quantizer="ste_sign", name="other"))
    first, other = sparsify(model).sparsify_report.kernels
    name = getattr(quantizer, "__name__", type(quantizer).__name__)
    name = {"ste_tern": "SteTern", "ste_heaviside": "SteHeaviside"}.get(quantizer, name)
    assert not first.changed and other.changed
    assert first.reason == f"`{name}` gives other values than a sign"
    with pytest.raises(ValueError, match=f"`where` must list only.*'conv': `{name}` gives other"):
        sparsify(model, where=["conv"])


def test_a_channel_of_zeros_keeps_its_scale_of_zero():
    model = one_conv("magnitude_aware_sign")
    kernel = model.layers[0].kernel.numpy()
    kernel[..., 2] = 0.0
    model.layers[0].kernel.assign(kernel)
    whole = sparsify(model, 512)
    assert whole.layers[0].kernel_quantizer.multiplier.numpy()[2] == 0
    np.testing.assert_array_equal(model(images()), whole(images()))


def test_the_source_is_not_even_counted_in():
    """A quantizer that keeps statistics is not called."""
    with lq.context.metrics_scope(["flip_ratio"]):
        model = one_conv("ste_sign")
    before = [w.numpy() for w in model.layers[0].kernel_quantizer.flip_ratio.weights]
    sparsify(model)
    for first, second in zip(
        before, model.layers[0].kernel_quantizer.flip_ratio.weights, strict=True
    ):
        np.testing.assert_array_equal(first, second)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 999),
    st.sampled_from(["ste_sign", "magnitude_aware_sign"]),
    st.sampled_from([1, 2, 31, 511, 512, 65536]),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
)
def test_any_number_of_codewords(seed, quantizer, num_codewords, channels, filters):
    model = tf.keras.Sequential(
        [
            layers.Input((5, 5, channels)),
            lq.layers.QuantConv2D(
                filters, 3, kernel_quantizer=quantizer, kernel_constraint="weight_clip"
            ),
        ]
    )
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(3, 3, channels, filters)).astype(np.float32)
    model.layers[0].kernel.assign(latent)
    sparse = sparsify(model, num_codewords, "fixed")
    (kernel,) = sparse_kernels(sparse)
    with lq.context.quantized_scope(True):
        quantised = sparse.layers[0].kernel.numpy()
        source = model.layers[0].kernel.numpy()
    np.testing.assert_array_equal(np.abs(quantised), np.abs(source))
    assert len(blocks_of(quantised)) <= num_codewords
    if num_codewords >= 512:
        np.testing.assert_array_equal(quantised, source)


# Which kernels


def test_each_kernel_is_reported_with_a_reason():
    report = sparsify(every_kind(), 16).sparsify_report
    assert {kernel.name: kernel.reason for kernel in report.kernels if not kernel.changed} == {
        "stem": "not 3×3",
        "separable/pointwise": "not 3×3",
        "float": "float kernel",
        "dense": "not 3×3",
        "ternary": "not 3×3",
        "top": "float kernel",
    }
    assert [kernel.name for kernel in report.kernels if kernel.changed] == [
        *("conv", "depthwise", "separable/depthwise", "transpose", "conv#2")
    ]
    lines = str(report).splitlines()
    assert len(lines) == 2 + len(report.kernels) and lines[-1] == "5 of 11 kernels changed."
    assert " ".join(lines[0].split()) == "kernel shape codewords signs flipped what was done"
    assert lines[2].split()[:3] == ["conv", "3×3×8×16", "16"]
    assert " ".join(lines[1].split()) == "stem 5×5×8×8 left alone: not 3×3"


def test_where_names_layers_or_asks_a_function():
    model = every_kind()

    def changed(where):
        report = sparsify(model, 16, where=where).sparsify_report
        return [kernel.name for kernel in report.kernels if kernel.changed]

    assert changed(["dense", "separable"]) == [
        "separable/depthwise",
        "separable/pointwise",
        "dense",
    ]
    assert changed({"conv"}) == ["conv", "conv#2"]
    assert changed(lambda layer: isinstance(layer, lq.layers.QuantDense)) == ["dense"]


def test_kernels_that_have_codewords_already_are_left_alone():
    model = sparsify(every_kind(), 4, where=["conv"])
    again = sparsify(model, 16)
    report = {kernel.name: kernel for kernel in again.sparsify_report.kernels}
    assert report["conv"].reason == "has 4 codewords already" and report["depthwise"].changed
    for first, second in zip(sparse_kernels(model), sparse_kernels(again)[:1]):
        np.testing.assert_array_equal(first.quantizer.selected(), second.quantizer.selected())
        assert first.quantizer.num_codewords == second.quantizer.num_codewords == 4
    with pytest.raises(ValueError, match="must have a kernel.*1 of them: has 4 codewords already"):
        sparsify(sparsify(one_conv("ste_sign"), 4))


def test_layers_called_twice_and_subclasses_of_larqs():
    shared = Named(8, 3, padding="same", kernel_quantizer="ste_sign", tag="mine", name="shared")
    inputs = layers.Input((8, 8, 8))
    model = tf.keras.Model(inputs, shared(shared(inputs) * 0.1))
    whole, sparse = sparsify(model, 512), sparsify(model, 8)
    np.testing.assert_array_equal(model(images()), whole(images()))
    assert len(sparse_kernels(sparse)) == 1 and len(sparse.sparsify_report.kernels) == 1
    assert type(sparse.get_layer("shared")) is Named and sparse.get_layer("shared").tag == "mine"


@tf.keras.utils.register_keras_serializable("tests")
class Named(lq.layers.QuantConv2D):
    def __init__(self, *args, tag, **options):
        super().__init__(*args, **options)
        self.tag = tag

    def get_config(self):
        return {**super().get_config(), "tag": self.tag}


@tf.keras.utils.register_keras_serializable("tests")
class AlwaysSign(lq.layers.QuantConv2D):
    """Has its quantizer built in."""

    def __init__(self, *args, kernel_quantizer=None, **options):
        super().__init__(*args, kernel_quantizer="ste_sign", **options)


# Precision, files, training


@pytest.fixture
def half_precision():
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    yield before
    tf.keras.mixed_precision.set_global_policy(before)


@pytest.mark.parametrize("quantizer", ["ste_sign", "magnitude_aware_sign"])
def test_half_precision_rounds_as_the_source(half_precision, quantizer):
    model = one_conv(quantizer)
    kernel = model.layers[0].kernel.numpy()
    kernel.flat[::5] = -1e-9  # 0 in half precision, hence +1
    model.layers[0].kernel.assign(kernel)
    tf.keras.mixed_precision.set_global_policy(
        half_precision
    )  # the model's, not the global one, counts
    whole = sparsify(model, 512)
    assert whole.layers[0].dtype_policy.name == "mixed_float16"
    assert whole(images()).dtype == tf.float16
    np.testing.assert_array_equal(model(images()), whole(images()))
    assert sparsify(model, 8).layers[0].dtype_policy.name == "mixed_float16"


@pytest.mark.parametrize("form", ["keras", "h5", "tf"])
def test_survives_every_file_format(form, tmp_path):
    model = one_conv("magnitude_aware_sign")
    if (
        form != "tf"
    ):  # a SavedModel takes long to write, and the kinds of layers make no difference to it
        kernels = dict(depthwise_quantizer="ste_sign", pointwise_quantizer="approx_sign")
        model.add(lq.layers.QuantSeparableConv2D(8, 3, depth_multiplier=4, name="two", **kernels))
    sparse = sparsify(model, 16, where=lambda layer: True)
    path = tmp_path / f"model.{form}"
    sparse.save(path)
    loaded = tf.keras.models.load_model(path)
    np.testing.assert_array_equal(sparse(images()), loaded(images()))
    assert loaded.layers[0].kernel_quantizer.scale is True
    for first, second in zip(sparse.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_real_network_loses_little_and_learns_on():
    """The trained ResNet8 on images of CIFAR-10 that are in the package."""
    model = networks.resnet8()
    (train, train_labels), (test, test_labels) = zoo.load_cifar10_sample()
    train, train_labels = zoo.preprocess_input(train[:600]), train_labels[:600]
    test, test_labels = zoo.preprocess_input(test[:300]), test_labels[:300]

    def accuracy(model):
        return np.mean(model.predict(test, batch_size=100, verbose=0).argmax(1) == test_labels)

    before = accuracy(model)
    np.testing.assert_array_equal(model(test[:50]), sparsify(model, 512)(test[:50]))
    tf.keras.utils.set_random_seed(0)
    sparse = sparsify(model, 32)
    start = accuracy(sparse)
    random = accuracy(sparsify(model, 32, "fixed", start=None))
    assert before > 0.7 and start > random + 0.1
    sparse.compile(
        tf.keras.optimizers.Adam(1e-3),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = sparse.fit(train, train_labels, batch_size=100, epochs=2, verbose=0).history["loss"]
    assert history[1] < history[0]
    assert accuracy(sparse) > start
    for kernel in sparse_kernels(sparse):
        assert set(kernel.assigned()) <= set(kernel.quantizer.selected())
        with lq.context.quantized_scope(True):
            assert blocks_of(kernel.layer.kernel.numpy()) <= set(kernel.quantizer.selected())


@pytest.mark.skipif(not networks.XNOR.exists(), reason="the shared XNOR-Net VGG16 is not here")
def test_a_trained_xnor_network_keeps_its_scales():
    model = networks.xnor_vgg16()
    data, labels = networks.cifar10_test(100)
    inputs = networks.xnor_inputs(data)
    source = model.predict(inputs, batch_size=100, verbose=0)
    whole = sparsify(model, 512).predict(inputs, batch_size=100, verbose=0)
    np.testing.assert_array_equal(source, whole)
    sparse = sparsify(model, 32)
    report = sparse.sparsify_report
    changed = [kernel for kernel in report.kernels if kernel.changed]
    assert len(changed) == 12 and all("multiplier of" in kernel.reason for kernel in changed)
    assert {kernel.name for kernel in report.kernels if not kernel.changed} == {
        "stem",
        "classifier",
    }
    for kernel in sparse_kernels(sparse):
        alpha = np.abs(model.get_layer(kernel.name).get_weights()[0]).max((0, 1, 2))
        np.testing.assert_allclose(kernel.quantizer.multiplier, alpha, rtol=1e-4)
    with_32 = sparse.predict(inputs, batch_size=100, verbose=0)
    accuracy = [np.mean(outputs.argmax(1) == labels) for outputs in (source, with_32)]
    # Without any training a third of the images is still right: 10 % would be chance.
    assert accuracy[0] > 0.8 and accuracy[1] > 0.3


# What is refused


def shared_quantizer():
    quantizer = TrainedScale()
    options = dict(padding="same", kernel_quantizer=quantizer)
    return tf.keras.Sequential(
        [layers.Input((8, 8, 8)), *(lq.layers.QuantConv2D(8, 3, name=n, **options) for n in "ab")]
    )


def wrapped():
    conv = lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", name="inside")
    return tf.keras.Sequential([layers.Input((2, 8, 8, 8)), layers.TimeDistributed(conv)])


def built_in():
    return tf.keras.Sequential([layers.Input((8, 8, 8)), AlwaysSign(8, 3, name="always")])


@pytest.mark.parametrize(
    "model, message",
    [
        (shared_quantizer, "Layers 'a' and 'b' share a quantizer that has weights.*its own"),
        (wrapped, "layer 'inside' cannot be exchanged.*inside another, such as a wrapper"),
        (
            built_in,
            "'always' of class `AlwaysSign` does not take another quantizer.*SteSign.*`kernel_quantizer`",
        ),
        (
            lambda: tf.keras.Sequential([layers.Input((4,)), layers.Dense(3)]),
            "must have a kernel.*1 kernels; 1 of them: float kernel",
        ),
        (lambda: tf.keras.Sequential([layers.Dense(3)]), "`model` must have weights"),
        (lambda: layers.Dense(3), "`model` must be a functional or sequential Keras model"),
    ],
    ids=[
        "shared quantizer",
        "wrapper",
        "built-in quantizer",
        "nothing binary",
        "not built",
        "no model",
    ],
)
def test_models_that_cannot_be_changed_are_refused(model, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        sparsify(model())


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_codewords=0), "`num_codewords` must be an integer from 1.*num_codewords=0"),
        (dict(num_codewords="32"), "`num_codewords` must be"),
        (
            dict(start="best"),
            "`start` must be one of .*'coverage', 'exchanged', 'frequent'.*start='best'",
        ),
        (dict(start=lambda *_: [1, 1]), "Layer 'conv': `indices` must be .*1 more than once"),
        (dict(selection="best"), "`selection` must be one of"),
        (dict(selection=Fixed([1, 2]), num_codewords=2), "`start` must be `None` if the selection"),
        (
            dict(selection=Fixed([1, 2]), num_codewords=3, start=None),
            "Layer 'conv': `indices` must.*2 of them",
        ),
        (dict(where="conv"), "`where` must be `None`, a function, or a list.*where='conv'"),
        (
            dict(where=["conv", "typo"]),
            r"`where` must list names.*\['conv', 'pointwise'\].*Received: 'typo'",
        ),
        (
            dict(where=lambda layer: False),
            "must have a kernel.*among those that `where` means.*2 of them: not asked for",
        ),
        (
            dict(where=["conv", "pointwise"]),
            "`where` must list only .*'pointwise': neither 3×3, nor does its last axis but one",
        ),
    ],
)
def test_bad_arguments_are_named(options, message):
    model = one_conv("ste_sign")
    model.add(lq.layers.QuantConv2D(5, 1, kernel_quantizer="ste_sign", name="pointwise"))
    with pytest.raises(ValueError, match=message):
        sparsify(model, **options)


def test_our_own_layers_are_not_changed_but_copied():
    model = tf.keras.Sequential(
        [
            layers.Input((8, 8, 8)),
            SKSConv2D(8, 3, num_codewords=4, name="ours"),
            lq.layers.QuantConv2D(8, 3, kernel_quantizer=SparseKernelSign(4), name="larqs"),
            lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", name="plain"),
        ]
    )
    sparse = sparsify(model, 512)
    np.testing.assert_array_equal(model(images()), sparse(images()))
    assert [kernel.changed for kernel in sparse.sparsify_report.kernels] == [False, False, True]
