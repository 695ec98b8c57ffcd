"""Training on several replicas: all of them hold the same selection."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import tensorflow as tf

import larq_sks  # noqa: F401, registers the layers for loading

# Both runs: noise, no seed, the 1-bit part first, and each replica sees other images.
TRAINING = """
import sys

import numpy as np
import tensorflow as tf

import larq_sks as sks


def train(strategy, path):
    with strategy.scope():
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Input((6, 6, 4)),
                sks.layers.SKSConv2D(
                    8,
                    3,
                    num_codewords=4,
                    selection=sks.selections.Permutation(noise=1.0, boost=0.1),
                    input_quantizer="ste_sign",
                    name="conv",
                ),
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(3),
            ]
        )
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.Adam(0.01), loss)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 6, 6, 4)).astype(np.float32)
    labels = np.arange(16) % 3
    selection = model.layers[0].kernel_quantizer.selection
    first = selection.indices.tolist()
    model.fit(images, labels, batch_size=4, epochs=2, verbose=0)
    moved = len(set(selection.indices.tolist()) - set(first))
    schedule = sks.callbacks.SelectionSchedule(whole=0.5, frozen=0.0, noise=0.5)
    log = sks.callbacks.SelectionLog()
    model.fit(images, labels, batch_size=4, epochs=2, verbose=0, callbacks=[schedule, log])
    assert moved > 0
    assert int(selection._draws.numpy()[1]) == 16
    model.save(path)
    model.save(path + ".keras")
    model.save(path + ".h5")
    np.save(path + ".npy", model.predict(images, verbose=0))
    return selection
"""

MIRRORED = """
devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    devices[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
selection = train(strategy, sys.argv[1])
for variable in (selection._indices, selection._logits, selection._draws):
    first, second = strategy.experimental_local_results(variable)
    assert first.device != second.device
    np.testing.assert_array_equal(first.numpy(), second.numpy())
assert len(set(selection.indices.tolist())) == 4
"""

WORKER = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
selection = train(strategy, sys.argv[1])
names = ("_indices", "_logits", "_draws", "_noise", "_phase")
np.savez(sys.argv[1] + ".npz", **{name: getattr(selection, name).numpy() for name in names})
"""

# Some 20 s each when nothing else runs.
TIMEOUT = 240


def start(code, path, **environment):
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        **environment,
    }
    command = [sys.executable, "-c", TRAINING + textwrap.dedent(code), str(path)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(*processes):
    """Waits for all, and ends all when one fails or hangs."""
    try:
        for process in processes:
            output, _ = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, output[-5000:]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def assert_saved(path):
    images = np.random.default_rng(0).normal(size=(16, 6, 6, 4)).astype(np.float32)
    for suffix in ("", ".keras", ".h5"):
        model = tf.keras.models.load_model(f"{path}{suffix}")
        expected = np.load(f"{path}.npy")
        np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4)


def test_two_devices_hold_the_same_selection(tmp_path):
    finish(start(MIRRORED, tmp_path / "model"))
    assert_saved(tmp_path / "model")


def test_two_workers_hold_the_same_selection(tmp_path, two_workers):
    processes = [
        start(
            WORKER,
            tmp_path / f"model_{index}",
            TF_CONFIG=config,
        )
        for index, config in enumerate(two_workers)
    ]
    finish(*processes)
    first, second = (np.load(tmp_path / f"model_{index}.npz") for index in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert len(set(first["_indices"].tolist())) == 4
    assert_saved(tmp_path / "model_0")
