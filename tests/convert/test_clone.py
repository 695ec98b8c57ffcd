import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from larq_sks.convert.clone import clone, layers_of, remake
from larq_sks.quantizers import SparseKernelSign

layers = tf.keras.layers


def images(count=3, size=8, channels=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def randomise(model, seed=1):
    """Gives each weight, batch-norm statistics included, a value of its own."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.uniform(0.1, 1.0, w.shape) * rng.choice([-1, 1], w.shape) for w in model.get_weights()]
    )
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(tf.abs(layer.moving_variance))
    return model


def conv(filters=4, **options):
    return lq.layers.QuantConv2D(
        filters,
        3,
        padding="same",
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        **options,
    )


def plain(model):
    copy, copies = clone(model, lambda layer: None)
    assert not {id(w) for w in copy.weights} & {id(w) for w in model.weights}
    assert all(type(copies[layer]) is type(layer) for layer in copies)
    return copy


def assert_same(model, copy, inputs):
    for first, second in zip(
        tf.nest.flatten(model(inputs)), tf.nest.flatten(copy(inputs)), strict=True
    ):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_network_with_all_that_keras_offers():
    offset = 0.25
    image = layers.Input((8, 8, 4), name="image")
    other = layers.Input((8, 8, 4), name="other")
    shared = conv(name="shared", activity_regularizer=tf.keras.regularizers.l2(1e-3))
    inner = tf.keras.Sequential(
        [layers.Input((8, 8, 4)), conv(name="inner_conv"), layers.BatchNormalization()],
        name="inner",
    )
    x = layers.Lambda(lambda x: x + offset, name="closure")(
        shared(image)
    )  # a function with a closure
    y = tf.concat([inner(x), inner(shared(other)) * 2.0], axis=-1)
    y = layers.PReLU(shared_axes=[1, 2], name="prelu")(y)
    model = randomise(
        tf.keras.Model({"image": image, "other": other}, {"a": x, "b": tf.nn.relu(y)}, name="rich")
    )
    copy = plain(model)
    assert copy.name == "rich" and type(copy) is type(model)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    inputs = {"image": images(), "other": images(seed=1)}
    assert set(copy(inputs)) == {"a", "b"}
    assert_same(model, copy, inputs)
    assert len(copy.losses) == len(model.losses) == 2  # the shared layer's, once for each call
    assert copy.get_layer("closure").function is model.get_layer("closure").function
    assert model.get_layer("closure") is not copy.get_layer("closure")


def test_a_layer_that_two_nested_models_and_the_network_share():
    """Each nested model calls the layer before the network does."""
    shared = conv(name="shared")

    def nested(name):
        inputs = layers.Input((8, 8, 4))
        return tf.keras.Model(inputs, layers.ReLU()(shared(inputs)), name=name)

    inputs = layers.Input((8, 8, 4))
    x = nested("first")(inputs)
    x = layers.Add()([shared(x), nested("second")(shared(x))])
    model = randomise(tf.keras.Model(inputs, shared(x)))
    copy = plain(model)
    assert len(copy.weights) == len(model.weights) == 2
    assert_same(model, copy, images())


def test_a_sequential_model_that_learned_its_shape_from_data():
    model = tf.keras.Sequential(
        [conv(name="one"), tf.keras.Sequential([layers.Flatten(), layers.Dense(3)])]
    )
    model(images())
    randomise(model)
    copy = plain(model)
    assert_same(model, copy, images())


def test_a_layer_that_computes_with_copies_of_its_weights():
    normalization = layers.Normalization()
    normalization.adapt(5 + 3 * images())
    model = tf.keras.Sequential([layers.Input((8, 8, 4)), normalization])
    copy = plain(model)
    np.testing.assert_array_equal(model(images()), copy(images()))
    assert np.abs(model(images()) - images()).max() > 0.5


def test_precision_and_frozen_layers_are_kept():
    frozen = tf.keras.Sequential([layers.Input((8, 8, 4)), conv(name="inside")], name="frozen")
    frozen.trainable = False
    inputs = layers.Input((8, 8, 4))
    before = tf.keras.mixed_precision.global_policy()
    try:
        # For the whole layer: Larq's quantizers have a policy of their own.
        tf.keras.mixed_precision.set_global_policy("mixed_float16")
        half = conv(name="half")
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
    x = frozen(half(inputs))
    x = conv(name="still", trainable=False)(layers.BatchNormalization(name="norm")(x))
    model = randomise(tf.keras.Model(inputs, x))
    copy = plain(model)
    assert copy.get_layer("half").dtype_policy.name == "mixed_float16"
    assert [w.name for w in copy.trainable_weights] == [w.name for w in model.trainable_weights]
    assert {w.name.split("/")[0] for w in copy.trainable_weights} == {"half", "norm"}
    assert not copy.get_layer("frozen").trainable and not copy.get_layer("still").trainable
    assert_same(model, copy, images())
    model.trainable = False
    copy = plain(model)
    assert not copy.trainable and copy.trainable_weights == []


@tf.keras.utils.register_keras_serializable("tests")
class Two(layers.Layer):
    """Holds layers of its own, one of which does not learn; its config does not say so."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [layers.Dense(4, name="first"), layers.Dense(4, name="second")]

    def call(self, x):
        return self.parts[1](tf.nn.relu(self.parts[0](x)))


def test_layers_inside_layers_keep_their_weights_and_stay_frozen():
    """Keras lists weights that learn first, so that equal shapes would be swapped unnoticed."""
    two = Two(name="two")
    model = randomise(tf.keras.Sequential([layers.Input((4,)), two]))
    two.parts[0].trainable = False
    copy = plain(model)
    inputs = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(model(inputs), copy(inputs))
    assert [part.trainable for part in copy.get_layer("two").parts] == [False, True]


def test_replaced_layers_hand_on_what_both_have():
    inputs = layers.Input((8, 8, 4))
    old = lq.layers.QuantConv2D(
        4,
        3,
        activation=layers.PReLU(),
        kernel_quantizer=SparseKernelSign(4),
        kernel_constraint="weight_clip",
        name="old",
    )
    model = randomise(tf.keras.Model(inputs, layers.Flatten()(old(inputs))))
    copy, copies = clone(
        model,
        lambda layer: remake(layer, {"kernel_quantizer": "ste_sign"}) if layer is old else None,
    )
    new = copies[old]
    assert copy.get_layer("old") is new
    assert len(new.weights) == 3  # kernel, bias, slopes; no logits
    for first, second in [
        (old.kernel, new.kernel),
        (old.bias, new.bias),
        (old.activation.alpha, new.activation.alpha),
    ]:
        np.testing.assert_array_equal(first, second)


def test_latent_weights_are_copied_whatever_the_scope():
    model = tf.keras.Sequential([layers.Input((8, 8, 4)), conv()])
    before = model.get_weights()
    with lq.context.quantized_scope(True):
        copy, _ = clone(model, lambda layer: None)
    np.testing.assert_array_equal(copy.get_weights()[0], before[0])
    assert len(np.unique(before[0])) > 2


def test_layers_of_lists_nested_ones_but_not_the_inside_of_layers():
    inner = tf.keras.Sequential([layers.Input((4,)), layers.Dense(2, name="inner")])
    wrapped = layers.TimeDistributed(layers.Dense(4, name="wrapped"), name="wrapper")
    model = tf.keras.Sequential(
        [layers.Input((5, 4)), wrapped, layers.GlobalMaxPool1D(name="pool"), inner]
    )
    names = [layer.name for layer in layers_of(model)]
    assert [name for name in names if "input" not in name] == ["wrapper", "pool", "inner"]


# What cannot be copied


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class Doubling(tf.keras.Sequential):
    def call(self, x, **options):
        return 2 * super().call(x, **options)


class Headless(layers.Layer):
    """Its config lacks an argument of its constructor."""

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 4)))
    return model


@pytest.mark.parametrize(
    "model, message",
    [
        (
            subclassed,
            "`model` must be a functional or sequential Keras model.*Received.*Subclassed",
        ),
        (lambda: layers.Dense(3), "`model` must be a functional or sequential Keras model.*Dense"),
        (
            lambda: tf.keras.Sequential([layers.Dense(3)], name="raw"),
            "`model` must have weights.*'raw'",
        ),
        (
            lambda: Doubling([layers.Input((4,)), layers.Dense(3)], name="twice"),
            "'twice' cannot be copied.*`Doubling`",
        ),
        (
            lambda: tf.keras.Sequential([layers.Input((4,)), Headless(2.0, name="head")]),
            "'head' of class `Headless` cannot be made anew.*factor.*get_config",
        ),
    ],
    ids=["subclassed", "no model", "not built", "own call", "config"],
)
def test_what_cannot_be_copied_is_refused(model, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        clone(model(), lambda layer: None)
