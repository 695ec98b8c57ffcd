"""An optimizer that gives binary kernels one rule and all other variables another."""

import json
import os
import subprocess
import sys
import textwrap

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
from larq_sks_zoo.training.optimizers import SplitOptimizer, adam_and_sgd, is_binary

STEPS = 6


def network(num_codewords=8, seed=0):
    """A learned selection, a plain binary kernel, a depthwise one, and float layers around them."""
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    options = dict(input_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False)
    selection = sks.selections.Permutation(seed=3)
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="stem"),
            sks.layers.SKSConv2D(
                6, 3, num_codewords=num_codewords, selection=selection, **options, name="sparse"
            ),
            layers.BatchNormalization(momentum=0.9, name="norm"),
            lq.layers.QuantDepthwiseConv2D(
                3,
                padding="same",
                depthwise_quantizer="ste_sign",
                depthwise_constraint="weight_clip",
                use_bias=False,
                name="depthwise",
            ),
            lq.layers.QuantConv2D(6, 1, kernel_quantizer="ste_sign", **options, name="plain"),
            layers.Flatten(),
            lq.layers.QuantDense(3, name="logits"),
        ]
    )


def data(batch_size=8):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size * STEPS, 8, 8, 3)).astype(np.float32)
    labels = rng.integers(0, 3, len(images))
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)


def loss():
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def rules():
    """Two optimizers with schedules, clipping and decoupled weight decay."""
    schedules = tf.keras.optimizers.schedules
    adam = tf.keras.optimizers.Adam(
        schedules.PiecewiseConstantDecay([2, 4], [0.02, 0.05, 0.01]), clipnorm=1.0
    )
    sgd = tf.keras.optimizers.SGD(
        schedules.PolynomialDecay(0.1, STEPS), momentum=0.9, weight_decay=1e-3
    )
    return adam, sgd


def trained(optimizer, steps=STEPS, **options):
    model = network()
    model.compile(optimizer, loss(), **options)
    model.fit(data().take(steps), epochs=1, verbose=0)
    return model


def assert_same_weights(model, other, tolerance=0.0):
    for variable, expected in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(variable, expected, tolerance, tolerance, err_msg=variable.name)


def test_binary_are_the_kernels_that_become_signs_and_the_logits_of_a_selection():
    names = [variable.name.split("/") for variable in network().trainable_variables]
    binary = [v.name.split("/") for v in network().trainable_variables if is_binary(v)]
    assert [(name[0], name[-1]) for name in binary] == [
        ("sparse", "kernel:0"),
        ("sparse", "logits:0"),
        ("depthwise", "depthwise_kernel:0"),
        ("plain", "kernel:0"),
    ]
    assert len(names) == 10


def test_each_group_learns_as_under_its_own_optimizer_alone():
    model = trained(SplitOptimizer(*rules()))
    by_hand = network()
    adam, sgd = rules()
    variables = by_hand.trainable_variables
    # Named here one by one, so that `is_binary` is not its own judge.
    chosen = {"sparse/kernel", "depthwise/depthwise_kernel", "plain/kernel"}
    is_chosen = [v.name[:-2] in chosen or "permutation" in v.name for v in variables]
    assert sum(is_chosen) == 4

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss()(labels, by_hand(images, training=True))
        pairs = list(zip(tape.gradient(value, variables), variables, strict=True))
        adam.apply_gradients([pair for pair, b in zip(pairs, is_chosen, strict=True) if b])
        sgd.apply_gradients([pair for pair, b in zip(pairs, is_chosen, strict=True) if not b])

    for images, labels in data():
        step(images, labels)
    assert_same_weights(model, by_hand)
    first = network()
    for variable, initial in zip(model.trainable_variables, first.trainable_variables, strict=True):
        assert not np.array_equal(variable, initial), variable.name
    assert np.abs(model.get_layer("plain").get_weights()[0]).max() <= 1  # the constraint
    assert int(model.optimizer.iterations) == STEPS
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


def test_is_compiled_by_xla():
    compiled = trained(SplitOptimizer(*rules()), steps=1, jit_compile=True)
    assert_same_weights(compiled, trained(SplitOptimizer(*rules()), steps=1), 1e-4)


def test_a_config_makes_the_same_optimizer():
    optimizer = SplitOptimizer(*rules(), name="split")
    config = tf.keras.optimizers.serialize(optimizer)
    again = tf.keras.optimizers.deserialize(json.loads(json.dumps(config)))
    assert isinstance(again, SplitOptimizer) and again.get_config() == optimizer.get_config()
    assert_same_weights(trained(again), trained(optimizer))


def test_a_checkpoint_holds_the_whole_state(tmp_path):
    model = trained(SplitOptimizer(*rules()), steps=2)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "state")
    again = network(seed=1)
    again.compile(SplitOptimizer(*rules()), loss())
    again.optimizer.build(again.trainable_variables)
    state = tf.train.Checkpoint(model=again, optimizer=again.optimizer)
    state.restore(path).assert_existing_objects_matched()
    for each in (model, again):
        each.fit(data().skip(2), verbose=0)
    assert_same_weights(again, model)


class _Killed(Exception):
    pass


class _Kill(tf.keras.callbacks.Callback):
    """Stops training in the middle of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            raise _Killed


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path):
    def train(*callbacks):
        model = network()
        model.compile(SplitOptimizer(*rules()), loss())
        backup = tf.keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        model.fit(
            data(),
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=[backup, *callbacks] * bool(callbacks),
        )
        return model

    with pytest.raises(_Killed):
        train(_Kill())
    resumed = train(tf.keras.callbacks.Callback())
    undisturbed = train()
    assert_same_weights(resumed, undisturbed)
    assert int(resumed.optimizer.iterations) == 3 * STEPS


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_a_saved_model_trains_on_from_its_state(tmp_path, name):
    model = trained(SplitOptimizer(*rules()))
    model.save(tmp_path / name)
    again = tf.keras.models.load_model(tmp_path / name)
    assert_same_weights(again, model)
    pairs = zip(again.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    for each in (model, again):
        each.fit(data(), epochs=1, shuffle=False, verbose=0)
    assert_same_weights(again, model)


def test_mixed_precision_scales_the_loss_for_both():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = trained(SplitOptimizer(*rules()), steps=1)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    assert sum(map(is_binary, model.trainable_variables)) == 4
    exact = trained(SplitOptimizer(*rules()), steps=1)
    for variable, expected in zip(
        model.trainable_variables, exact.trainable_variables, strict=True
    ):
        # Rounded activations of another sign change a few gradients; unscaled ones would be off by 2^15.
        difference = np.abs(variable.numpy() - expected.numpy())
        assert np.median(difference) < 0.01, variable.name


MIRRORED = """
import sys

sys.path[:0] = sys.argv[1:]
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from test_optimizers import SplitOptimizer, data, is_binary, loss, network, rules

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = network()
    model.layers[2].trainable = False  # batch norm, which would see half the batch
    model.compile(SplitOptimizer(*rules()), loss())
model.fit(data().take(1), verbose=0)
single = network()
single.layers[2].trainable = False
single.compile(SplitOptimizer(*rules()), loss())
single.fit(data().take(1), verbose=0)
assert sum(map(is_binary, model.trainable_variables)) == 4
assert int(model.optimizer.iterations.numpy()) == 1
for variable, expected in zip(model.trainable_variables, single.trainable_variables):
    first, second = variable.values
    np.testing.assert_array_equal(first, second, variable.name)
    np.testing.assert_allclose(first, expected, 1e-4, 1e-5, err_msg=variable.name)
"""


@pytest.mark.slow
def test_replicas_train_as_one():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIRRORED), os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def test_quicknet_gives_sgd_ten_times_the_rate_of_adam():
    cosine = tf.keras.optimizers.schedules.CosineDecay
    optimizer = adam_and_sgd(1e-2, lambda rate: cosine(rate, 100))
    assert isinstance(optimizer.binary, tf.keras.optimizers.Adam)
    assert isinstance(optimizer.other, tf.keras.optimizers.SGD) and optimizer.other.momentum == 0.9
    assert float(optimizer.binary.learning_rate) == pytest.approx(0.01)
    assert float(optimizer.other.learning_rate) == pytest.approx(0.1)


def test_wrong_optimizers_are_refused():
    adam = tf.keras.optimizers.Adam()
    with pytest.raises(ValueError, match="`other` must be .*not a legacy one.*Received: other="):
        SplitOptimizer(adam, tf.keras.optimizers.legacy.SGD())
    with pytest.raises(ValueError, match="`binary` must be .*Received: binary='adam'"):
        SplitOptimizer("adam", adam)
    with pytest.raises(ValueError, match="must be two optimizers"):
        SplitOptimizer(adam, adam)


def test_a_network_without_binary_kernels_is_refused():
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 3)), tf.keras.layers.Flatten()])
    model.add(tf.keras.layers.Dense(3))
    model.compile(SplitOptimizer(*rules()), loss())
    with pytest.raises(ValueError, match="nothing to train by `binary`.*2 variables.*0 of them"):
        model.fit(data(), verbose=0)
