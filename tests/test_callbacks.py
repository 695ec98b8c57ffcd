import csv
import sys
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from larq_sks import codebook, layers
from larq_sks.callbacks import SelectionLog, SelectionSchedule
from larq_sks.selections import Fixed, Permutation
from larq_sks.starts import STARTS

STEPS = 5
"""Steps in an epoch of the test data."""


def network(*selections, num_codewords=4):
    network = tf.keras.Sequential([tf.keras.layers.Input((6, 6, 4))])
    for number, selection in enumerate(selections):
        network.add(
            layers.SKSConv2D(
                8,
                3,
                num_codewords=num_codewords,
                selection=selection,
                padding="same",
                input_quantizer="ste_sign",
                name=f"conv_{number}",
            )
        )
    network.add(tf.keras.layers.Flatten())
    network.add(tf.keras.layers.Dense(3))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(tf.keras.optimizers.Adam(0.01), loss)
    return network


def fit(model, *callbacks, epochs=2, **options):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2 * STEPS, 6, 6, 4)).astype(np.float32)
    labels = np.arange(2 * STEPS) % 3
    options = {"batch_size": 2, "verbose": 0, **options}
    return model.fit(images, labels, epochs=epochs, callbacks=list(callbacks), **options)


def selection_of(model, layer=0):
    return layers.sparse_kernels(model)[layer].quantizer.selection


class Recorder(tf.keras.callbacks.Callback):
    """Notes what a selection is like in each step; comes after the schedule."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_begin(self, batch, logs=None):
        selection = selection_of(self.model)
        values = selection.phase, selection.temperature, selection.noise, selection.indices.tolist()
        self.steps.append(values)

    def column(self, number):
        return [step[number] for step in self.steps]


# SelectionSchedule


def test_phases_follow_the_parts_of_the_run():
    model, recorder = network(Permutation(seed=0)), Recorder()
    fit(model, SelectionSchedule(whole=0.4, frozen=0.3), recorder)
    assert recorder.column(0) == ["whole"] * 4 + ["learn"] * 3 + ["frozen"] * 3
    assert selection_of(model).phase == "frozen"


@pytest.mark.parametrize(
    "whole, frozen, phases",
    [
        (0.0, 0.0, ["learn"] * 10),
        (0.0, 0.2, ["learn"] * 8 + ["frozen"] * 2),
        (1.0, 0.0, ["whole"] * 10),
        (0.0, 1.0, ["frozen"] * 10),
        # The sum of these is 1, but 1 - 0.7 is more than 0.3.
        (0.3, 0.7, ["whole"] * 3 + ["frozen"] * 7),
    ],
)
def test_parts_may_be_left_out(whole, frozen, phases):
    recorder = Recorder()
    fit(network(Permutation(seed=0)), SelectionSchedule(whole, frozen, temperature=1.0), recorder)
    assert recorder.column(0) == phases


@pytest.mark.parametrize("name, choose", STARTS.items())
def test_the_start_comes_from_the_kernels_as_they_are_then(name, choose):
    model = network(Permutation(seed=0), Permutation(seed=1))
    expected = {}

    class Before(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if all(k.quantizer.selection.phase == "whole" for k in layers.sparse_kernels(model)):
                for kernel in layers.sparse_kernels(model):
                    expected[kernel.name] = choose(kernel.latent(), 4).tolist()

    recorder = Recorder()
    fit(model, Before(), SelectionSchedule(0.5, 0.5, start=name), recorder)
    assert recorder.steps[5][3] == expected["conv_0"]
    assert selection_of(model, 0).indices.tolist() == expected["conv_0"]
    assert selection_of(model, 1).indices.tolist() == expected["conv_1"]


def test_without_a_first_part_the_selection_stays_where_it_stands():
    recorder = Recorder()
    fit(network(Permutation(start=[3, 1, 4, 5], boost=20.0)), SelectionSchedule(), recorder)
    assert recorder.column(3) == [[3, 1, 4, 5]] * 10


def test_a_frozen_selection_does_not_change_while_the_kernel_learns():
    model, recorder = network(Permutation(boost=0.05, noise=1.0, seed=0)), Recorder()
    before = model.layers[0].kernel.latent_variable.numpy()
    fit(model, SelectionSchedule(frozen=0.6), recorder)
    chosen = recorder.column(3)
    assert chosen[0] != chosen[4]
    assert chosen[4:] == [selection_of(model).indices.tolist()] * 6
    assert np.any(model.layers[0].kernel.latent_variable.numpy() != before)


def test_temperature_and_noise_move_while_learning():
    recorder = Recorder()
    schedule = SelectionSchedule(0.2, 0.3, temperature=(1.0, 0.1), noise=(0.5, 0.0))
    fit(network(Permutation(temperature=3.0, noise=2.0, seed=0)), schedule, recorder)
    temperature, noise = recorder.column(1), recorder.column(2)
    np.testing.assert_allclose(temperature[:2], 3.0)
    np.testing.assert_allclose(noise[:2], 2.0)
    parts = np.arange(5) / 4
    np.testing.assert_allclose(temperature[2:7], 0.1**parts, rtol=1e-5)
    np.testing.assert_allclose(noise[2:7], 0.5 * (1 - parts), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(temperature[7:], temperature[6])


def test_one_number_is_constant_and_none_leaves_the_selections_own():
    recorder = Recorder()
    model = network(Permutation(temperature=3.0, noise=0.25, seed=0))
    fit(model, SelectionSchedule(temperature=0.5), recorder)
    assert recorder.column(1) == [0.5] * 10
    assert recorder.column(2) == [0.25] * 10


def test_a_run_that_goes_on_finds_its_place():
    model, recorder = network(Permutation(seed=0)), Recorder()
    schedule = SelectionSchedule(whole=0.5, frozen=0.25)
    fit(model, schedule, recorder, epochs=1)
    assert recorder.column(0) == ["whole"] * 3 + ["learn"] + ["frozen"]
    recorder.steps.clear()
    fit(model, schedule, recorder, epochs=4, initial_epoch=2)
    assert recorder.column(0) == ["learn"] * 5 + ["frozen"] * 5


def test_only_learned_selections_are_led():
    model = network(Permutation(seed=0), Fixed([0, 1, 2, 3]))
    fit(model, SelectionSchedule(whole=0.5, frozen=0.5))
    assert selection_of(model, 1).indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("selection, num_codewords", [(Fixed(), 4), (Permutation(), 512)])
def test_a_model_without_a_learned_selection_is_an_error(selection, num_codewords):
    model = network(selection, num_codewords=num_codewords)
    with pytest.raises(ValueError, match="needs a model with a learned selection.*has none"):
        fit(model, SelectionSchedule())


def test_an_unknown_number_of_steps_is_an_error():
    model = network(Permutation())
    batch = np.zeros((2, 6, 6, 4), np.float32), np.zeros(2)
    with pytest.raises(ValueError, match="`steps_per_epoch`"):
        model.fit(iter([batch] * 2), verbose=0, callbacks=[SelectionSchedule()])
    model.fit(iter([batch] * 2), verbose=0, callbacks=[SelectionSchedule()], steps_per_epoch=2)


@pytest.mark.parametrize(
    "argument, value",
    [
        *((name, value) for name in ["whole", "frozen"] for value in [-0.1, float("nan"), "half"]),
        ("start", "random"),
        *(("temperature", value) for value in [0, -1.0, (1.0, 0.0), (1.0,), "warm", float("nan")]),
        *(("noise", value) for value in [-1.0, (0.1, -0.1), (1, 2, 3), float("inf")]),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received: {argument}="):
        SelectionSchedule(**{argument: value})


def test_parts_of_more_than_the_run_are_an_error():
    with pytest.raises(ValueError, match="`whole` and `frozen`.*at most 1.*whole=0.6, frozen=0.5"):
        SelectionSchedule(whole=0.6, frozen=0.5)
    with pytest.raises(ValueError, match="`whole`.*whole=1.5"):
        SelectionSchedule(whole=1.5)


# Without a callback


def test_a_permutation_learns_without_any_callback():
    """From the worst codewords of a kernel, whose weights hardly move, to better ones."""
    kernel = np.random.default_rng(0).choice([-1.0, 1.0], (3, 3, 1, 1)) * np.ones((3, 3, 4, 8))
    target = int(codebook.to_codewords(kernel[:, :, 0, 0].ravel()))
    start = [target ^ 511, target ^ 510, target ^ 509, target ^ 507]
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((6, 6, 4)),
            layers.SKSConv2D(
                8, 3, num_codewords=4, use_bias=False, selection=Permutation(start=start, boost=0.5)
            ),
        ]
    )
    images = np.random.default_rng(1).normal(size=(64, 6, 6, 4)).astype(np.float32)
    wanted = tf.nn.conv2d(images, kernel.astype(np.float32), 1, "VALID")
    model.layers[0].kernel.latent_variable.assign(0.01 * kernel)
    model.compile(tf.keras.optimizers.Adam(0.02), "mse")
    losses = model.fit(images, wanted, batch_size=8, epochs=5, verbose=0).history["loss"]
    selection = selection_of(model)
    assert losses[-1] < 0.1 * losses[0]
    assert target in selection.indices and target not in start
    assert len(set(selection.indices.tolist())) == 4


# SelectionLog


class Chosen(tf.keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.sets = []

    def on_train_begin(self, logs=None):
        self.on_epoch_end(-1)

    def on_epoch_end(self, epoch, logs=None):
        kernels = layers.sparse_kernels(self.model)
        self.sets.append([set(kernel.quantizer.selected().tolist()) for kernel in kernels])


def test_log_reports_to_history_and_files(tmp_path):
    model = network(Permutation(noise=0.5, boost=0.1, seed=0), Fixed([0, 1, 2, 3]))
    chosen, path = Chosen(), tmp_path / "log.csv"
    callbacks = SelectionLog(), chosen, tf.keras.callbacks.CSVLogger(path)
    history = fit(model, *callbacks, epochs=3).history

    changed = [
        sum(len(new - old) for old, new in zip(*pair, strict=True))
        for pair in pairwise(chosen.sets)
    ]
    assert history["codewords_changed"] == changed and changed[0] > 0
    assert all(0.0 <= gap <= 1.0 for gap in history["selection_gap"])
    with open(path) as file:
        rows = list(csv.DictReader(file))
    for name in ("codewords_changed", "codeword_entropy", "selection_gap"):
        np.testing.assert_allclose([float(row[name]) for row in rows], history[name])


def test_the_part_with_the_whole_codebook_is_no_change():
    model = network(Permutation(start=[0, 1, 2, 3]))
    model.optimizer.learning_rate = 0.0
    schedule = SelectionSchedule(whole=0.5, frozen=0.0)
    history = fit(model, schedule, SelectionLog(), epochs=4).history
    assert history["codewords_changed"] == [0] * 4
    assert selection_of(model).indices.tolist() != [0, 1, 2, 3]


def test_log_keeps_what_was_selected_after_each_epoch():
    log, chosen = SelectionLog(), Chosen()
    model = network(Permutation(noise=0.5, boost=0.1, seed=0), Fixed([0, 1, 2, 3]))
    fit(model, SelectionSchedule(whole=0.4, frozen=0.2, start="frequent"), log, chosen, epochs=5)
    kept = [[set(indices.tolist()) for indices in epoch.values()] for epoch in log.selected]
    assert kept == chosen.sets[1:]
    assert [list(epoch) for epoch in log.selected] == [["conv_0", "conv_1"]] * 5
    assert [len(epoch["conv_0"]) for epoch in log.selected] == [512, 512, 4, 4, 4]
    fit(model, log, epochs=1)
    assert len(log.selected) == 1


def test_log_writes_pictures_for_tensorboard(tmp_path):
    pytest.importorskip("matplotlib")
    model = network(Permutation(seed=0), Fixed([0, 1, 2, 3]))
    log = SelectionLog(tensorboard=tmp_path)
    fit(model, SelectionSchedule(whole=0.5, frozen=0.5), log, epochs=2)
    pictures = {}
    (path,) = tmp_path.glob("selection/events*")
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            pictures[value.tag, event.step] = value.tensor.string_val
    # In the first epoch only the kernel with the fixed selection has chosen.
    both = {(name, epoch) for name in ("use", "selection", "codewords/conv_1") for epoch in (0, 1)}
    assert pictures.keys() == both | {("codewords/conv_0", 1)}
    for width, height, picture in pictures.values():
        shape = tf.io.decode_png(picture).shape
        assert (int(width), int(height)) == (shape[1], shape[0]) and min(shape[:2]) > 50


def test_only_pictures_need_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "larq_sks.plot", raising=False)
    fit(network(Permutation(seed=0)), SelectionLog(), epochs=1)
    with pytest.raises(ImportError, match=r"matplotlib: pip install '\.\[plot\]'"):
        SelectionLog(tensorboard="logs")


def test_entropy_is_that_of_the_use_in_all_blocks():
    model = network(Fixed([0, 511, 5, 6]))
    layer = model.layers[0]
    kernel = np.ones((3, 3, 4, 8))
    kernel[..., :2] = -1.0  # a quarter of the 32 blocks
    layer.kernel.latent_variable.assign(kernel)
    model.optimizer.learning_rate = 0.0
    history = fit(model, SelectionLog(), epochs=1).history
    np.testing.assert_allclose(history["codeword_entropy"], 0.25 * 2 + 0.75 * np.log2(4 / 3))
    assert history["codewords_changed"] == [0]
    assert "selection_gap" not in history


def test_gap_is_the_mass_that_is_not_on_the_selected_rows():
    model = network(Permutation(start=[0, 1, 2, 3], boost=1.0))
    model.optimizer.learning_rate = 0.0
    loose = fit(model, SelectionLog(), epochs=1).history["selection_gap"][0]
    selection = selection_of(model)
    plan = selection.relaxed().numpy()
    np.testing.assert_allclose(loose, 1 - np.mean([plan[i, i] for i in range(4)]), rtol=1e-5)
    selection.temperature = 0.05
    tight = fit(model, SelectionLog(), epochs=1).history["selection_gap"][0]
    assert tight < 0.2 < 0.8 < loose


def test_a_run_that_it_could_not_divide_is_refused():
    model = network(Permutation(seed=0))
    model.compile("sgd", "mse", steps_per_execution=2)
    images = tf.zeros((8, 6, 6, 4))
    with pytest.raises(ValueError, match="steps_per_execution=1.*steps_per_execution=2"):
        model.fit(
            images, model.predict(images, verbose=0), verbose=0, callbacks=[SelectionSchedule()]
        )


def test_the_defaults_change_the_selection_when_the_gradient_lasts():
    """Not just the boosted starts of other tests: a bare `Permutation` gives way in the end."""
    tf.keras.utils.set_random_seed(0)
    model = network(Permutation(seed=0))
    selection = selection_of(model)
    before = selection.indices
    images = np.random.default_rng(0).normal(size=(32, 6, 6, 4)).astype(np.float32)
    # Far from what the network can give, so that the gradient keeps its direction.
    model.compile(tf.keras.optimizers.Adam(0.05), "mse")
    targets = 100.0 + model.predict(images, verbose=0)
    model.fit(images, targets, batch_size=32, epochs=150, verbose=0)
    assert set(selection.indices) != set(before)
    assert len(set(selection.indices)) == len(before)
