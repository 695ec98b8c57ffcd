"""Training runs, on the sample of CIFAR-10 that is in the package."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_zoo.training import datasets, recipes, run

ROOT = Path(__file__).parents[3]
SAMPLE = recipes.get("resnet8-cifar10_sample")
TIMEOUT = 240
# In one order, whatever the machine does else.
ONE_THREAD = dict(
    TF_NUM_INTRAOP_THREADS="1",
    TF_NUM_INTEROP_THREADS="1",
    OMP_NUM_THREADS="1",
    CUDA_VISIBLE_DEVICES="",
    TF_CPP_MIN_LOG_LEVEL="2",
)


def start(*command, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for all, and ends all when one fails or hangs."""
    outputs = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, output[-5000:]
            outputs.append(output)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return outputs


def rows(folder):
    path = folder / "log.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def results_of_epochs(folder):
    timed = ("seconds", "images_a_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows(folder)]


def accuracy(model):
    _, (images, labels) = zoo.load_cifar10_sample()
    scores = model.predict(zoo.preprocess_input(images), verbose=0, batch_size=500)
    return 100 * float(np.mean(scores.argmax(-1) == labels))


def assert_equal_weights(first, second):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A 1-bit network after one epoch, with what its run says."""
    folder = tmp_path_factory.mktemp("parent") / "run"
    return folder, run.train(SAMPLE, folder, epochs=1)


def test_a_killed_run_goes_on_to_the_same_result(tmp_path):
    """Killed while it learns codewords, in the middle of an epoch."""

    def command(name):
        options = ("--num-codewords", 16, "--start", "none", "--epochs", 4)
        output = ("--output", tmp_path / name)
        return ("-m", "larq_sks_cli", "train", SAMPLE.name, *options, *output)

    whole = start(*command("whole"))
    broken = start(*command("broken"))
    try:
        until = time.monotonic() + TIMEOUT
        checkpoint = tmp_path / "broken" / "backup" / "stage1" / "ckpt-3.index"
        while not checkpoint.exists() and time.monotonic() < until and broken.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1)
        broken.send_signal(signal.SIGKILL)
    finally:
        broken.kill()
        broken.communicate()
    assert len(rows(tmp_path / "broken")) == 3
    assert not (tmp_path / "broken" / "final.sks").exists()
    (again,) = finish(start(*command("broken")))
    finish(whole)
    assert "epoch 4/4" in again and "epoch 3/4" not in again
    assert [row["epoch"] for row in rows(tmp_path / "broken")] == ["0", "1", "2", "3"]
    assert results_of_epochs(tmp_path / "broken") == results_of_epochs(tmp_path / "whole")
    models = [zoo.ResNet8(num_codewords=16) for _ in range(2)]
    for model, name in zip(models, ("broken", "whole"), strict=True):
        model.load_weights(tmp_path / name / "final.weights.h5")
    assert_equal_weights(*models)
    assert (tmp_path / "broken" / "final.sks").read_bytes() == (
        tmp_path / "whole" / "final.sks"
    ).read_bytes()


def test_a_run_leaves_the_network_its_log_and_its_record(parent):
    folder, trained = parent
    names = {"final.sks", "final.weights.h5", "log.csv", "run.json", "tensorboard"}
    assert {path.name for path in folder.iterdir()} == names
    model = sks.load(folder / "final.sks")
    record = json.loads((folder / "run.json").read_text())
    results = record["results"]
    assert accuracy(model) == accuracy(trained.model) == pytest.approx(results["accuracy"])
    assert results["parameters"] == model.count_params()
    assert results["bits_a_weight"] == 1 and results["binary_bits"] == 165_888
    assert results["bytes"] == (folder / "final.sks").stat().st_size
    (row,) = rows(folder)
    assert float(row["val_accuracy"]) == pytest.approx(results["accuracy"] / 100, abs=1e-6)
    # That of the last of 11 steps, on the cosine from 0.003 to 0.
    assert float(row["rate"]) == pytest.approx(0.0015 * (1 + np.cos(np.pi * 10 / 11)), rel=1e-4)
    assert float(row["images_a_second"]) > 0
    again = zoo.ResNet8()
    again.load_weights(folder / "final.weights.h5")
    assert_equal_weights(again, trained.model)
    # The latent weights are in it, in float16.
    given, kept = (m.get_layer("stage1_1_conv").kernel.numpy() for m in (trained.model, model))
    np.testing.assert_allclose(kept, given, rtol=1e-3, atol=1e-4)
    assert record["settings"]["stages"][0]["epochs"] == 1
    assert record["versions"]["larq-sks"] == sks.__version__


def test_a_finished_run_is_not_done_again(parent):
    folder, trained = parent
    again = run.train(SAMPLE, folder, epochs=1)
    assert not again.is_new and trained.is_new
    assert again.record == json.loads((folder / "run.json").read_text())
    assert_equal_weights(again.model, trained.model)


@pytest.mark.slow
def test_a_network_that_no_sks_file_can_hold_is_kept_as_weights(tmp_path):
    stage = recipes.Stage(1, 500, 1e-3, 0)
    recipe = recipes.Recipe("name", "RealToBinaryNet", "cifar10_sample", (stage,), stage, "")
    trained = run.train(recipe, tmp_path / "run")
    results = trained.record["results"]
    assert results["file"] == "final.weights.h5" and "Lambda" in results["note"]
    again = zoo.RealToBinaryNet(
        weights=tmp_path / "run" / results["file"], input_shape=(32, 32, 3), num_classes=10
    )
    assert_equal_weights(again, trained.model)


@pytest.mark.parametrize(
    "options, what",
    [({"seed": 1}, "seed: 0 there, 1 now"), ({"num_codewords": 8, "start": "none"}, "codewords")],
)
def test_the_folder_of_another_run_is_refused(parent, options, what):
    with pytest.raises(ValueError, match=f"another run.*{what}"):
        run.train(SAMPLE, parent[0], epochs=1, **options)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="new or empty"):
        run.train(SAMPLE, tmp_path, epochs=1)


@pytest.mark.parametrize("selection", ["permutation", "fixed"])
def test_codewords_are_chosen_from_the_trained_network(parent, tmp_path, monkeypatch, selection):
    path = parent[0] / "final.sks"
    started = []
    fit = run.fitting.fit
    # What training begins with.
    monkeypatch.setattr(
        run.fitting,
        "fit",
        lambda model, *rest: (started.append(sks.codewords(model)), fit(model, *rest)),
    )
    trained = run.train(
        SAMPLE, tmp_path / "run", epochs=1, num_codewords=16, start=path, selection=selection
    )
    expected = sks.codewords(sks.sparsify(zoo.ResNet8(weights=path), 16))
    for name, kernel in expected.items():
        np.testing.assert_array_equal(started[0][name].indices, kernel.indices)
        np.testing.assert_array_equal(started[0][name].counts, kernel.counts)
    assert trained.record["results"]["bits_a_weight"] == pytest.approx(4 / 9)
    kinds = {"permutation": sks.selections.Permutation, "fixed": sks.selections.Fixed}
    for kernel in sks.layers.sparse_kernels(trained.model):
        assert isinstance(kernel.quantizer.selection, kinds[selection])
    again = sks.load(tmp_path / "run/final.sks")
    assert trained.record["results"]["accuracy"] == pytest.approx(accuracy(again))


def test_a_teacher_changes_what_is_learned(parent, tmp_path):
    path = parent[0] / "final.sks"
    trained = run.train(SAMPLE, tmp_path / "run", epochs=1, teacher=path)
    assert "distillation" in rows(tmp_path / "run")[0]
    assert isinstance(trained.model.get_layer("stage1_1_conv"), lq.layers.QuantConv2D)
    kernels = [m.get_layer("stem").kernel.numpy() for m in (trained.model, parent[1].model)]
    assert not np.array_equal(*kernels)


def test_mixed_precision_leaves_weights_and_logits_in_float32(tmp_path):
    trained = run.train(SAMPLE, tmp_path / "run", epochs=1, mixed_precision=True)
    assert trained.record["settings"]["precision"] in ("mixed_bfloat16", "mixed_float16")
    assert tf.keras.mixed_precision.global_policy().name == "float32"
    assert {str(weight.dtype) for weight in map(tf.convert_to_tensor, trained.model.weights)} == {
        "<dtype: 'float32'>"
    }
    assert trained.model.output.dtype == tf.float32
    again = sks.load(tmp_path / "run/final.sks")
    assert trained.record["results"]["accuracy"] == pytest.approx(accuracy(again))


@pytest.mark.slow
def test_float_kernels_go_over_into_binary_ones(tmp_path):
    first = recipes.Stage(1, 128, 1e-3, 0, binary_kernels=False)
    second = recipes.Stage(1, 128, 1e-3, 0, decay="linear")
    recipe = recipes.Recipe("two", "ResNet8", "cifar10_sample", (first, second), second, "")
    trained = run.train(recipe, tmp_path / "run", num_codewords=8, start="none")
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1"]
    assert len(sks.layers.sparse_kernels(trained.model)) == 6
    plain = zoo.ResNet8()
    inputs = zoo.preprocess_input(zoo.load_cifar10_sample()[0][0][:4])
    floats = run.with_float_kernels(plain)
    assert_equal_weights(plain, floats)
    assert not np.array_equal(floats(inputs), plain(inputs))
    for layer in floats.layers:
        if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is None:
            layer.kernel.assign(lq.math.sign(layer.kernel))
    np.testing.assert_array_equal(floats(inputs), plain(inputs))


def test_mirrored_on_one_device_trains_alike(parent, tmp_path):
    trained = run.train(SAMPLE, tmp_path / "run", epochs=1, distribute="mirrored")
    assert trained.record["settings"]["replicas"] == max(
        1, len(tf.config.list_physical_devices("GPU"))
    )
    assert trained.record["results"]["test_images"] == 1000
    # Not the same: under a strategy TensorFlow draws other initial weights from one seed.
    losses = [float(rows(folder)[0]["loss"]) for folder in (tmp_path / "run", parent[0])]
    assert abs(losses[0] - losses[1]) < 0.3


WORKER = """
import sys
import numpy as np
from larq_sks_zoo.training import recipes, run
recipe = recipes.get("resnet8-cifar10_sample")
trained = run.train(recipe, sys.argv[1], epochs=2, num_codewords=16, start="none",
                    distribute="multi-worker")
assert bool(trained.record.get("results")) == (sys.argv[3] == "0")
np.savez(sys.argv[2], *trained.model.get_weights())
"""


@pytest.mark.slow
def test_two_workers_come_to_the_same_weights(tmp_path, two_workers):
    processes = [
        start(
            "-c",
            WORKER,
            tmp_path / "run",
            tmp_path / f"{index}.npz",
            index,
            TF_NUM_INTEROP_THREADS="4",
            TF_CONFIG=config,
        )
        for index, config in enumerate(two_workers)
    ]
    finish(*processes)
    first, second = (np.load(tmp_path / f"{index}.npz") for index in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["replicas"] == 2 and record["results"]["test_images"] == 1000
    assert len(rows(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    "options, what",
    [
        ({"selection": "random"}, "`selection`.*'random'"),
        ({"num_codewords": 0}, "`num_codewords`.*0"),
        ({"epochs": 0}, "`epochs`.*0"),
        ({"start": "net.sks"}, "`start`.*without `num_codewords`"),
        ({"num_codewords": 8, "start": "net.sks"}, "`start`.*exists.*net.sks"),
        ({"teacher": "net.sks"}, "no file 'net.sks'"),
        ({"distribute": "cloud"}, "`distribute`.*'cloud'"),
        ({"distribute": "multi-worker"}, "TF_CONFIG"),
    ],
)
def test_wrong_arguments_are_refused_before_training(tmp_path, options, what):
    with pytest.raises(ValueError, match=what):
        run.train(SAMPLE, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_missing_parent_is_told_with_the_way_to_make_it(tmp_path):
    recipe = recipes.get("vgg_small-cifar100")
    with pytest.raises(
        ValueError, match="no trained 1-bit VGGSmall.*larq-sks train vgg_small-cifar100"
    ):
        run.train(recipe, tmp_path / "run", num_codewords=8)


def test_a_missing_data_set_leaves_no_folder(tmp_path):
    recipe = recipes.get("resnet8-cifar10")
    with pytest.raises(ValueError, match="no data set 'cifar10'.*tfds.load"):
        run.train(recipe, tmp_path / "run", data_dir=tmp_path)
    assert not (tmp_path / "run").exists()
    assert datasets.read("cifar10_sample").train_images == 1500
