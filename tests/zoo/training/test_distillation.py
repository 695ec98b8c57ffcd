"""Training a network on the outputs of another."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_zoo.training.distillation import distilled

CLASSES = 5


def network(seed, softmax=None):
    """One dense layer and batch norm; its outputs are logits or, in one of two ways, probabilities."""
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    image = layers.Input((2, 3, 1))
    x = layers.BatchNormalization(name=f"norm{seed}")(layers.Flatten()(image))
    dense = layers.Dense(CLASSES, softmax if softmax == "softmax" else None, name=f"dense{seed}")
    x = dense(x)
    if softmax == "layer":
        x = layers.Softmax()(x)
    elif softmax == "float32":  # as it is put behind a network in mixed precision
        x = layers.Activation("linear", dtype="float32")(layers.Activation("softmax")(x))
    return tf.keras.Model(image, x)


def data(count=12):
    rng = np.random.default_rng(7)
    images = rng.normal(2, 3, size=(count, 2, 3, 1)).astype(np.float32)
    return images, rng.integers(0, CLASSES, count)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def logits_by_hand(model, images, norm_with_batch):
    """The network in NumPy, float64, and what goes into its dense layer."""
    gamma, beta, mean, variance, kernel, bias = map(np.float64, model.get_weights())
    x = images.reshape(len(images), -1).astype(np.float64)
    if norm_with_batch:
        mean, variance = x.mean(0), x.var(0)
    x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    return x @ kernel + bias, x


@pytest.mark.parametrize(
    "ends", [(None, None), (None, "softmax"), ("layer", "float32"), ("float32", None)]
)
def test_a_step_follows_the_gradient_of_labels_and_soft_targets(ends):
    temperature, weight, rate = 3.0, 0.7, 0.1
    student, teacher = network(0, ends[0]), network(1, ends[1])
    images, labels = data()
    scores, x = logits_by_hand(student, images, norm_with_batch=True)
    targets, _ = logits_by_hand(teacher, images, norm_with_batch=False)
    hot = np.eye(CLASSES)[labels]
    soft, ours = softmax(targets / temperature), softmax(scores / temperature)
    divergence = (soft * np.log(soft / ours)).sum(-1).mean()
    # Per image: 1·(p - y) from the labels, T²·(1/T)·(p_T - q_T) from the targets.
    gradient = (1 - weight) * (softmax(scores) - hot) + weight * temperature * (ours - soft)
    kernel_gradient = x.T @ gradient / len(images)
    before = [layer.copy() for layer in student.get_weights()]
    of_teacher = [weight.copy() for weight in teacher.get_weights()]

    model = distilled(student, teacher, temperature, weight)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=ends[0] is None)
    model.compile(tf.keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    logs = model.fit(images, labels, batch_size=len(images), verbose=0).history

    change = before[4] - student.get_weights()[4]
    np.testing.assert_allclose(change, rate * kernel_gradient, rtol=1e-3, atol=1e-6)
    bias = before[5] - student.get_weights()[5]
    np.testing.assert_allclose(bias, rate * gradient.mean(0), rtol=1e-3, atol=1e-6)
    assert logs["distillation"][0] == pytest.approx(temperature**2 * divergence, rel=1e-4)
    of_labels = -np.log(softmax(scores)[np.arange(len(labels)), labels]).mean()
    assert logs["loss"][0] == pytest.approx(of_labels, rel=1e-4)
    assert logs["accuracy"][0] == pytest.approx((scores.argmax(-1) == labels).mean())
    for weights, expected in zip(teacher.get_weights(), of_teacher, strict=True):
        np.testing.assert_array_equal(weights, expected)  # batch-norm statistics too


def test_what_layers_add_to_the_loss_counts_in_full():
    def moved(weight):
        teacher = network(1)
        tf.keras.utils.set_random_seed(0)
        regular = tf.keras.regularizers.L2(0.5)
        student = tf.keras.Sequential(
            [
                tf.keras.layers.Input((2, 3, 1)),
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(CLASSES, kernel_regularizer=regular),
            ]
        )
        before = student.get_weights()[0]
        model = distilled(student, teacher, weight=weight)
        # Labels count nothing, and with all images black soft targets do not reach the kernel.
        model.compile(tf.keras.optimizers.SGD(0.1), lambda y, p: 0.0 * p[:, 0])
        model.fit(np.zeros((4, 2, 3, 1), np.float32), np.zeros(4), verbose=0)
        return student.get_weights()[0] / before

    for weight in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(moved(weight), 0.9, rtol=1e-5)  # 1 - rate · 2 · 0.5


def test_outputs_and_scores_are_the_students():
    student, teacher = network(0), network(1)
    model = distilled(student, teacher)
    images, labels = data()
    for each in (model, student):
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        each.compile("sgd", loss, metrics=["accuracy"])
    assert model.evaluate(images, labels, verbose=0) == student.evaluate(images, labels, verbose=0)
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), student.predict(images, verbose=0)
    )
    history = model.fit(images, labels, validation_data=(images, labels), verbose=0).history
    assert list(history) == ["loss", "accuracy", "distillation", "val_loss", "val_accuracy"]
    assert model.student is student
    names = {weight.name for weight in model.weights}
    assert names >= {weight.name for weight in student.weights}
    assert not names & {weight.name for weight in teacher.weights}


def test_probabilities_that_are_rounded_to_zero_leave_everything_finite():
    student, teacher = network(0, "softmax"), network(1, "softmax")
    for model in (student, teacher):
        model.set_weights([10 * w if w.ndim == 2 else w for w in model.get_weights()])
    images, labels = data()
    images = 100 * images
    assert (teacher.predict(images, verbose=0) == 0).any()
    model = distilled(student, teacher, temperature=1.0)
    model.compile(tf.keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    history = model.fit(images, labels, verbose=0).history
    assert np.isfinite(history["distillation"]).all()
    assert all(np.isfinite(weight).all() for weight in student.get_weights())


def sparse_network(seed, selection):
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            sks.layers.SKSConv2D(6, 3, num_codewords=8, selection=selection, name=f"conv{seed}"),
            layers.BatchNormalization(momentum=0.9),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


def learning(folder, *callbacks):
    """A network with a noisy learned selection learns from another, with a backup."""
    teacher = sparse_network(1, sks.selections.Permutation(seed=2))
    student = sparse_network(0, sks.selections.Permutation(seed=1, noise=0.5, boost=0.5))
    model = distilled(student, teacher, temperature=2.0, weight=0.5)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    (images, labels), _ = zoo.load_cifar10_sample()
    images = zoo.preprocess_input(images[:32, ::4, ::4])
    batches = tf.data.Dataset.from_tensor_slices((images, labels[:32] % 4)).batch(8)
    schedule = sks.callbacks.SelectionSchedule(frozen=0.2)
    backup = tf.keras.callbacks.BackupAndRestore(str(folder))
    model.fit(batches, epochs=3, verbose=0, callbacks=[backup, schedule, *callbacks])
    selection = teacher.layers[0].kernel_quantizer.selection
    assert selection.phase == "learn"  # where it was: the schedule leads the student alone
    return student


class _Killed(Exception):
    pass


class _Kill(tf.keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise _Killed


def test_a_killed_distillation_goes_on_as_if_nothing_had_happened(tmp_path):
    with pytest.raises(_Killed):
        learning(tmp_path / "killed", _Kill())
    student = learning(tmp_path / "killed")
    undisturbed = learning(tmp_path / "undisturbed")
    for variable, expected in zip(student.weights, undisturbed.weights, strict=True):
        np.testing.assert_array_equal(variable, expected, variable.name)
    assert sks.layers.sparse_kernels(student)[0].quantizer.selection.phase == "frozen"
    student.save(tmp_path / "student.h5")  # a whole Keras model, with nothing of the teacher in it
    again = tf.keras.models.load_model(tmp_path / "student.h5", compile=False)
    images = np.ones((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(again(images), student(images))


def test_is_compiled_by_xla_and_runs_in_mixed_precision():
    def train(**options):
        student, teacher = network(0), network(1)
        model = distilled(student, teacher)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.SGD(0.1), loss, **options)
        model.fit(*data(), batch_size=6, shuffle=False, verbose=0)
        return model

    plain = train()
    compiled = train(jit_compile=True)
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = train()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    for weight, expected in zip(compiled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-5)
    assert isinstance(mixed.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    for weight, expected in zip(mixed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=0.02, atol=0.02)


MIRRORED = """
import sys

sys.path.insert(0, sys.argv[1])
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_distillation import data, distilled, network


def train(strategy):
    with strategy.scope():
        student, teacher = network(0), network(1)
        student.layers[2].trainable = False  # batch norm, which would see half the batch
        model = distilled(student, teacher)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.SGD(0.1), loss)
    history = model.fit(*data(), batch_size=6, shuffle=False, verbose=0).history
    return student.get_weights(), history["distillation"]


weights, divergence = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
expected, expected_divergence = train(tf.distribute.get_strategy())
np.testing.assert_allclose(divergence, expected_divergence, rtol=1e-4)
for weight, other in zip(weights, expected):
    np.testing.assert_allclose(weight, other, 1e-4, 1e-5)
"""


@pytest.mark.slow
def test_replicas_train_as_one():
    run = subprocess.run(
        [sys.executable, "-c", MIRRORED, os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": 0}, "`temperature` must be a finite number above 0.*temperature=0"),
        ({"weight": 1.5}, "`weight` must be from 0 to 1.*weight=1.5"),
        ({"weight": -0.5}, "`weight` must be a finite number of 0 or more"),
        ({"teacher": tf.keras.Model()}, "`teacher` must be a built functional or sequential"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distilled(**{"student": network(0), "teacher": network(1), **options})


def test_networks_that_do_not_fit_are_refused():
    other = tf.keras.Sequential([tf.keras.layers.Input((2, 3, 1)), tf.keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"same output shape.*student \(None, 5\).*\(None, 6\)"):
        distilled(network(0), other)
    larger = tf.keras.Sequential([tf.keras.layers.Input((4, 3, 1)), tf.keras.layers.Flatten()])
    with pytest.raises(ValueError, match="same input shape"):
        distilled(network(0), larger)
