"""The command line, as a user calls it."""

import contextlib
import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from click.testing import CliRunner
from tensorflow.lite.python import schema_py_generated
from tensorflow.lite.tools import flatbuffer_utils

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks import convert, storage
from larq_sks_cli import commands, console, files

KINDS = ("net.keras", "net.h5", "net", "net.sks")
CONVOLUTIONS = [f"stage{stage}_{number}_conv" for stage in (1, 2, 3) for number in (1, 2)]


class CifarSample(tfds.core.GeneratorBasedBuilder):
    """The package's sample of CIFAR-10 as a data set of TensorFlow Datasets, and one without classes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name, version="1.0.0") for name in ("classes", "numbers")
    ]

    def _info(self):
        classes = tfds.features.ClassLabel(num_classes=10)
        number = tfds.features.Scalar(tf.int64)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": classes if self.builder_config.name == "classes" else number,
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples(*zoo.load_cifar10_sample()[1])}

    def _generate_examples(self, images, labels):
        for number, (image, label) in enumerate(zip(images[:300], labels[:300])):
            yield number, {"image": image, "label": int(label)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained 1-bit network in each kind of file, and images to try it on."""
    folder = tmp_path_factory.mktemp("files")
    model = networks.resnet8()
    for name in ("net.keras", "net.h5"):
        model.save(folder / name)
    tf.keras.models.save_model(model, folder / "net", include_optimizer=False)
    storage.save(model, folder / "net.sks")
    model.save_weights(folder / "net.weights.h5")
    for config in ("classes", "numbers"):
        CifarSample(config=config, data_dir=folder / "data").download_and_prepare()
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(commands.main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def run_json(*arguments):
    result = run(*arguments, "--json")
    assert result.stderr == ""
    return json.loads(result.stdout)


def fails(*arguments):
    """Runs a command that must fail, and returns its one line on stderr."""
    result = run(*arguments, code=1)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def start_process(*arguments, stderr=subprocess.PIPE):
    """Starts a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "larq_sks_cli", *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        text=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


def images(count=300):
    pixels, labels = zoo.load_cifar10_sample()[1]
    return zoo.preprocess_input(pixels[:count]), labels[:count]


def correct(model, count=300):
    inputs, labels = images(count)
    return int(np.sum(model.predict(inputs, verbose=0).argmax(-1) == labels))


def test_help_names_the_commands_and_does_not_wait_for_tensorflow():
    assert all(name in run("--help").stdout for name in commands.main.commands)
    program = (
        "import sys; from larq_sks_cli.commands import main\n"
        "for each in [], *([name] for name in main.commands):\n"
        "    main([*each, '--help'], standalone_mode=False)\n"
        "sys.exit('tensorflow' in sys.modules or 'rich' in sys.modules)"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read_as_the_same_network(folder, kind):
    model = networks.resnet8()
    figures = run_json("summary", folder / kind)
    expected = sks.models.summary(model, print_fn=lambda line: None).as_dict()
    # Keras numbers input layers anew.
    expected["layers"][0]["name"] = figures["layers"][0]["name"]
    assert figures == expected
    measured = run_json(
        "evaluate",
        folder / kind,
        "--data-dir",
        folder / "data",
        "--dataset",
        "cifar_sample/classes",
    )
    assert (measured["images"], measured["correct"]) == (300, correct(model))
    assert measured["accuracy"] == correct(model) / 300


def test_summary_prints_the_table_of_the_library(folder, capsys):
    printed = run("summary", folder / "net.h5").stdout
    sks.models.summary(networks.resnet8())
    assert printed == capsys.readouterr().out
    assert "stage3_2_conv" in printed


@pytest.mark.parametrize("name", ["small.sks", "small.keras", "small.h5"])
def test_sparsify_writes_what_the_library_makes_and_says_what_it_did(folder, tmp_path, name):
    report = run_json("sparsify", folder / "net.h5", tmp_path / name, "--num-codewords", "16")
    expected = convert.sparsify(networks.resnet8(), 16)
    assert report["path"] == str(tmp_path / name)
    assert report["size"] == (tmp_path / name).stat().st_size
    assert [k["name"] for k in report["kernels"] if k["changed"]] == CONVOLUTIONS
    assert all(k["num_codewords"] == 16 for k in report["kernels"] if k["changed"])
    assert all("float" in k["reason"] for k in report["kernels"] if not k["changed"])

    small = files.read_model(tmp_path / name)
    np.testing.assert_array_equal(
        small.predict(images()[0], verbose=0), expected.predict(images()[0], verbose=0)
    )


def test_sparsify_passes_its_options_on(folder, tmp_path):
    report = run_json(
        *("sparsify", folder / "net.keras", tmp_path / "small.keras", "--selection", "fixed"),
        *("--layer", CONVOLUTIONS[1], "--layer", CONVOLUTIONS[4], "--start", "frequent"),
    )
    assert [k["name"] for k in report["kernels"] if k["changed"]] == CONVOLUTIONS[1:5:3]
    assert "where" not in json.dumps(report)  # what Python calls --layer
    kernels = sks.layers.sparse_kernels(files.read_model(tmp_path / "small.keras"))
    for kernel in kernels:
        assert isinstance(kernel.quantizer.selection, sks.selections.Fixed)
        expected = sks.selections.most_frequent(kernel.latent(), 32)
        assert set(kernel.quantizer.selected()) == set(expected)

    text = run("sparsify", folder / "net.h5", tmp_path / "none.keras", "--start", "none").stdout
    assert "6 of 10 kernels changed" in text and f"{tmp_path / 'none.keras'}: " in text
    for kernel in sks.layers.sparse_kernels(files.read_model(tmp_path / "none.keras")):
        assert set(kernel.quantizer.selected()) != set(
            sks.selections.greedy_coverage(kernel.latent(), 32)
        )


def test_a_sks_file_keeps_latent_weights_if_asked(folder, tmp_path):
    run("sparsify", folder / "net.h5", tmp_path / "small.sks")
    run("sparsify", folder / "net.h5", tmp_path / "latent.sks", "--latent")
    assert (tmp_path / "latent.sks").stat().st_size > 2 * (tmp_path / "small.sks").stat().st_size
    source = networks.resnet8().get_layer(CONVOLUTIONS[0]).kernel.numpy()
    kept, left_out = (
        files.read_model(tmp_path / name).get_layer(CONVOLUTIONS[0]).kernel.numpy()
        for name in ("latent.sks", "small.sks")
    )
    np.testing.assert_allclose(kept, source, atol=1e-3)
    assert len(np.unique(abs(left_out))) == 1 < len(np.unique(abs(source)))


def test_a_network_goes_all_the_way(folder, tmp_path):
    pytest.importorskip("larq_compute_engine", reason="LCE has no release for this Python")
    run("sparsify", folder / "net.h5", tmp_path / "small.sks")
    report = run_json(
        *("export", tmp_path / "small.sks", "--larq", tmp_path / "larq.keras"),
        *("--tflite", tmp_path / "small.tflite", "--sks", tmp_path / "again.sks"),
    )
    assert list(report) == ["tflite", "larq", "sks"]
    for part in report.values():
        assert part["size"] == Path(part["path"]).stat().st_size
    assert (tmp_path / "small.sks").stat().st_size < report["tflite"]["size"]

    plain = tf.keras.models.load_model(tmp_path / "larq.keras")
    assert {type(plain.get_layer(name)) for name in CONVOLUTIONS} == {lq.layers.QuantConv2D}
    small = files.read_model(tmp_path / "small.sks")
    for other in plain, files.read_model(tmp_path / "again.sks"):
        np.testing.assert_array_equal(
            other.predict(images()[0], verbose=0), small.predict(images()[0], verbose=0)
        )
    measured = run_json(
        *("evaluate", tmp_path / "small.tflite", "--data-dir", folder / "data"),
        *("--dataset", "cifar_sample/classes", "--limit", "100"),
    )
    # A score that adds up in another order may tip an image over.
    assert measured["images"] == 100 and abs(measured["correct"] - correct(small, 100)) <= 1


def test_export_prints_reports_and_passes_its_options_on(folder, tmp_path):
    exact = run_json("export", folder / "net.h5", "--sks", tmp_path / "net.sks")
    arguments = "--sks", tmp_path / "half.sks", "--floats", "float16"
    text = run("export", folder / "net.h5", *arguments).stdout
    assert f"{tmp_path / 'half.sks'}: " in text
    assert (tmp_path / "half.sks").stat().st_size < 0.7 * exact["sks"]["size"]


def test_strict_export_refuses_what_would_stay_float(tmp_path):
    pytest.importorskip("larq_compute_engine", reason="LCE has no release for this Python")
    dense = lq.layers.QuantDense(8, input_quantizer="ste_sign", kernel_quantizer="ste_sign")
    tf.keras.Sequential([tf.keras.Input((16,)), dense]).save(tmp_path / "dense.keras")
    arguments = "export", tmp_path / "dense.keras", "--tflite", tmp_path / "dense.tflite"
    assert dense.name in fails(*arguments, "--strict")
    assert not (tmp_path / "dense.tflite").exists()
    assert dense.name in run(*arguments).stdout


@pytest.mark.skipif(not networks.SHARED.exists(), reason="needs CIFAR-10 in shared/data/tfds")
def test_evaluate_measures_what_training_did(folder):
    line = run("evaluate", folder / "net.h5", "--data-dir", networks.SHARED / "tfds").stdout
    assert line == "73.73% of 10,000 images (cifar10, test): 7,373 correct.\n"


@pytest.mark.parametrize("command", ["sparsify", "export", "summary", "evaluate"])
def test_what_cannot_be_read_is_refused_in_one_line(folder, tmp_path, command):
    def fails_on(path):
        rest = {
            "sparsify": [tmp_path / "out.keras"],
            "export": ["--larq", tmp_path / "out.keras"],
            "summary": [],
            "evaluate": ["--data-dir", folder / "data"],
        }
        return fails(command, path, *rest[command])

    kinds = ".sks, .keras or .h5 file, or a SavedModel folder"
    assert kinds in fails_on(folder)
    assert kinds in fails_on(__file__)
    assert fails_on(tmp_path / "missing.h5") == f"There is no file '{tmp_path / 'missing.h5'}'."
    assert "hold a whole one" in fails_on(folder / "net.weights.h5")
    for name in ("half.sks", "half.keras", "half.h5"):
        data = (folder / name.replace("half", "net")).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        assert name in fails_on(tmp_path / name)
    tf.saved_model.save(tf.Module(), tmp_path / "module")
    assert "holds no Keras model" in fails_on(tmp_path / "module")
    assert not (tmp_path / "out.keras").exists()


@tf.keras.utils.register_keras_serializable(package="test_cli")
class Unknown(tf.keras.layers.Layer):
    pass


def test_a_class_that_is_not_known_is_named(tmp_path):
    model = tf.keras.Sequential([tf.keras.Input((4,)), Unknown()])
    model.save(tmp_path / "unknown.h5")
    with start_process("summary", tmp_path / "unknown.h5") as process:
        stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (1, "")
    # TensorFlow 2.18 writes lines of its own before.
    assert "Traceback" not in stderr
    assert "Unknown layer: 'test_cli>Unknown'" in stderr.splitlines()[-1]


def test_debug_shows_where_an_error_was(folder):
    result = run("summary", folder / "net.weights.h5", "--debug", code=1)
    assert isinstance(result.exception, ValueError)
    assert isinstance(result.exception.__cause__, ValueError)  # Keras' own


def test_evaluate_takes_the_images_in_the_package(folder):
    arguments = "evaluate", folder / "net.h5", "--dataset", "cifar10_sample"
    measured = run_json(*arguments)
    assert (measured["images"], measured["correct"]) == (1000, correct(networks.resnet8(), 1000))
    line = run(*arguments, "--split", "train", "--limit", "200").stdout
    assert "of 200 images (cifar10_sample, train)" in line
    assert "('train', 'test')" in fails(*arguments, "--split", "validation")


def test_evaluate_looks_where_training_looks(folder, monkeypatch):
    arguments = "evaluate", folder / "net.h5", "--dataset", "cifar_sample/classes"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "data"))
    assert run_json(*arguments)["images"] == 300
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "nowhere"))
    line = fails(*arguments)
    assert "--data-dir" in line and "nowhere" in line
    line = fails("evaluate", folder / "net.h5")
    assert "no data set 'cifar10'" in line and line.rstrip().endswith("cifar10_sample.")


def test_evaluate_checks_data_and_network_before_it_runs(folder, tmp_path):
    data = "--data-dir", folder / "data", "--dataset"
    network = folder / "net.keras"
    line = fails("evaluate", network, *data, "nonsense")
    assert f"tfds.load('nonsense', data_dir='{folder / 'data'}')" in line
    line = fails("evaluate", network, *data, "cifar_sample/classes:9.9.9")
    assert "tfds.load('cifar_sample/classes:9.9.9'" in line
    assert "['test']" in fails("evaluate", network, *data, "cifar_sample/classes", "--split", "t")
    assert "a class each" in fails("evaluate", network, *data, "cifar_sample/numbers")

    zoo.ResNet8(input_shape=(48, 48, 3)).save(tmp_path / "large.keras")
    line = fails("evaluate", tmp_path / "large.keras", *data, "cifar_sample/classes")
    assert "(32, 32, 3)" in line and "(48, 48, 3)" in line
    zoo.ResNet8(num_classes=11).save(tmp_path / "more.keras")
    line = fails("evaluate", tmp_path / "more.keras", *data, "cifar_sample/classes")
    assert "10 scores" in line and "(11,)" in line
    image = tf.keras.Input((32, 32, 3))
    scores = tf.keras.layers.Dense(10)(tf.keras.layers.Flatten()(image))
    tf.keras.Model(image, [scores, scores]).save(tmp_path / "two.keras")
    line = fails("evaluate", tmp_path / "two.keras", *data, "cifar_sample/classes")
    assert "(10,), (10,)" in line
    pytest.importorskip("larq_compute_engine", reason="LCE has no release for this Python")
    (tmp_path / "text.tflite").write_text("no network")
    assert "no .tflite file" in fails("evaluate", tmp_path / "text.tflite", *data, "nonsense")
    assert "no file" in fails("evaluate", tmp_path / "missing.tflite", *data, "nonsense")


def test_what_needs_lce_says_how_to_get_it(folder, tmp_path, monkeypatch):
    # As where it is not installed.
    for name in ("larq_compute_engine", "larq_compute_engine.tflite.python.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    # A file with nothing in it.
    (tmp_path / "net.tflite").write_bytes(
        flatbuffer_utils.convert_object_to_bytearray(schema_py_generated.ModelT())
    )
    assert "'.[lce]'" in fails("evaluate", tmp_path / "net.tflite", "--data-dir", tmp_path)
    arguments = "--tflite", tmp_path / "out.tflite"
    assert "'.[lce]'" in fails("export", folder / "net.h5", *arguments)


def test_files_that_exist_stay_unless_forced(folder, tmp_path):
    path = tmp_path / "old.keras"
    path.write_text("old")
    assert "--force" in fails("sparsify", folder / "net.h5", path)
    assert "--force" in fails("export", folder / "net.h5", "--larq", path)
    # Refused before anything is written.
    arguments = "--larq", path, "--sks", tmp_path / "new.sks"
    assert "--force" in fails("export", folder / "net.h5", *arguments)
    # The work fails, and the old file is still there.
    (tmp_path / "bad.h5").write_text("bad")
    fails("export", tmp_path / "bad.h5", "--larq", path, "--force")
    assert path.read_text() == "old" and not (tmp_path / "new.sks").exists()
    run("export", folder / "net.h5", "--larq", path, "--force")
    assert files.read_model(path).count_params() == networks.resnet8().count_params()


def test_places_that_cannot_be_written_to_are_refused(folder, tmp_path):
    assert "no folder" in fails("sparsify", folder / "net.h5", tmp_path / "none" / "x.sks")
    (tmp_path / "folder.sks").mkdir()
    line = fails("export", folder / "net.h5", "--sks", tmp_path / "folder.sks", "--force")
    assert "is a folder" in line


def test_sparsify_says_why_it_refuses(folder, tmp_path):
    line = fails("sparsify", folder / "net.h5", tmp_path / "out.sks", "--layer", "nonsense")
    assert line.startswith("--layer ") and "'nonsense'" in line and "stage1_1_conv" in line
    line = fails("sparsify", folder / "net.h5", tmp_path / "out.sks", "--layer", "stem")
    assert line.startswith("--layer ") and "'stem': float kernel" in line
    assert not (tmp_path / "out.sks").exists()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["sparsify", "in.h5"], "OUT"),
        (["sparsify", "in.h5", "out.txt"], ".sks, .keras, .h5"),
        (["sparsify", "in.h5", "out.sks", "--num-codewords", "0"], "--num-codewords"),
        (["sparsify", "in.h5", "out.sks", "--start", "random"], "--start"),
        (["export", "in.h5"], "--tflite"),
        (["export", "in.h5", "--tflite", "out.sks"], "--tflite"),
        (["export", "in.h5", "--larq", "out.sks"], "--larq"),
        (["export", "in.h5", "--sks", "out.h5"], "--sks"),
        (["export", "in.h5", "--larq", "out.h5", "--strict"], "--strict"),
        (["export", "in.h5", "--larq", "out.h5", "--floats", "int8"], "--floats"),
        (["export", "in.h5", "--sks", "out.sks", "--floats", "int4"], "int4"),
        (["summary"], "FILE"),
        (["evaluate", "in.h5", "--data-dir", ".", "--limit", "0"], "--limit"),
        (["demo", "--epochs", "0"], "--epochs"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--output", __file__], "--output"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_refused(arguments, complaint):
    result = run(*arguments, code=2)
    assert complaint in result.stderr and result.stdout == ""


def test_an_unexpected_error_is_one_line_too():
    @click.command(cls=console.Command)
    def broken():
        raise KeyError("something\nelse")

    result = CliRunner().invoke(broken, [])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "KeyError" in result.stderr and "--debug" in result.stderr
    assert isinstance(CliRunner().invoke(broken, ["--debug"]).exception, KeyError)


def test_a_terminal_shows_progress_and_stdout_holds_the_result_alone(folder):
    terminal, end = pty.openpty()
    arguments = "--data-dir", folder / "data", "--dataset", "cifar_sample/classes", "--json"
    with start_process("evaluate", folder / "net.h5", *arguments, stderr=end) as process:
        os.close(end)
        shown = b""
        with contextlib.suppress(OSError):  # Linux' way to say that the other side is closed
            while part := os.read(terminal, 10_000):
                shown += part
        os.close(terminal)
        assert json.load(process.stdout)["images"] == 300
    assert process.returncode == 0
    assert b"Reading" in shown and b"Classifying" in shown


def test_demo_goes_the_whole_way(tmp_path):
    folder = tmp_path / "results"
    result = run("demo", "--epochs", "2", "--output", folder)
    assert "0.56" in result.stdout and folder.name in result.stdout

    results = json.loads((folder / "results.json").read_text())
    networks = results["networks"]
    assert [round(network["bits_a_weight"], 2) for network in networks] == [1.0, 0.56, 0.56, 0.56]
    # 267,264 weights, and 18 codebooks of 32 times 9 bits.
    whole, small = 267_264 / 8192, (267_264 * 5 / 9 + 18 * 32 * 9) / 8192
    assert [n["binary_kib"] for n in networks] == pytest.approx([whole, small, small, small])
    one_bit, chosen, tuned, on_all = (network["accuracy"] for network in networks)
    assert chosen < tuned < one_bit and tuned < on_all
    with open(folder / "compact.csv") as log:
        assert "codewords_changed" in next(csv.reader(log))
    assert (folder / "codewords.png").read_bytes().startswith(b"\x89PNG")
    model = tf.keras.models.load_model(folder / "compact.keras")
    for codewords in sks.codewords(model).values():
        assert len(set(codewords.indices)) == 32

    forms = {form["file"]: form for form in results["files"]}
    for name, form in forms.items():
        assert form["size"] == (folder / name).stat().st_size > form["xz_size"] * 0.9
        assert form["accuracy"] == pytest.approx(tuned, abs=0.003)
        assert name in result.stdout
    assert min(forms, key=lambda name: forms[name]["xz_size"]) == "compact.sks"
    assert "compact.tflite" in forms or "'.[lce]'" in result.stdout
    timed = {timing["name"]: timing for timing in results["latency"]}
    if "compact.tflite" in forms:
        assert {"LCE", "TensorFlow Lite, int8"} <= timed.keys()
        assert timed["LCE"]["size"] == forms["compact.tflite"]["size"]
        shown = " ".join(result.stdout.split())  # lines are as long as the terminal is wide
        assert "larq-sks-runtime" in timed or "pip install ./runtime" in shown
        assert all(t["lower"] <= t["median"] <= t["upper"] for t in timed.values())
