"""Training steps for machines without TensorFlow, and the way back (zoo/evidence/accelerator)."""

import json
import lzma

import numpy as np
import pytest
import tensorflow as tf
from accelerator import bring_back, export

import larq_sks as sks
import larq_sks_zoo as zoo

IMAGES = zoo.preprocess_input(zoo.load_cifar10_sample()[1][0][:20])


def weights_of(model):
    return {export.raw(weight).name: export.raw(weight).numpy() for weight in model.weights}


def test_a_job_says_what_its_programs_take_and_change(tmp_path):
    export.export(tmp_path, "ResNet8", 8, learned=False, precision="float32", smoothing=0.1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    names = [name for name, _, _ in manifest["variables"]]
    model = export.build("ResNet8", 8, learned=False, precision="float32")
    expected = {name.split("/")[0] for name in weights_of(model)}
    assert {name.removeprefix("m/").split("/")[0] for name in names} >= expected
    unchanged = {name for name, is_written in zip(names, manifest["written"]) if not is_written}
    indices = {name for name in names if name.endswith("/indices:0")}
    assert unchanged == indices | {"learning_rate:0"} and len(indices) == 6
    # What is not drawn where the program runs comes along.
    start = np.load(tmp_path / "start.npz")
    numbers = {str(number) for number in range(len(names))}
    assert {name[1:] for name in start.files if name[0] == "v"} == numbers - set(manifest["drawn"])
    drawn = {names[int(number)] for number in manifest["drawn"]}
    assert drawn == {n for n in names if n.endswith("/kernel:0") and n[:2] not in ("m/", "v/")}
    for program in ("step", "test"):
        used = [number for kind, number in manifest["arguments"][program] if kind == "variable"]
        assert len(set(used)) == len(used) and max(used) < len(names)
        assert lzma.decompress((tmp_path / f"{program}.hlo.xz").read_bytes())


def test_a_step_that_learns_leaves_alone_what_the_program_takes_for_constant(tmp_path):
    export.export(tmp_path, "ResNet8", 8, learned=True, precision="float32", smoothing=0.0)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    variables = zip(manifest["variables"], manifest["written"], strict=True)
    unchanged = {name.split("/")[-1] for (name, _, _), is_written in variables if not is_written}
    constant = {"phase:0", "noise:0", "temperature:0", "logit_scale:0"}  # NEVER_CHANGED in `run.py`
    assert unchanged == constant | {"learning_rate:0"}


def test_weights_are_written_by_the_names_of_their_variables(tmp_path):
    model = export.build("ResNet8", 0, learned=False, precision="float32")
    file = tmp_path / "net.weights.h5"
    model.save_weights(file)
    arguments = ["weights", "ResNet8", str(file), str(tmp_path / "net.npz")]
    tf.keras.backend.clear_session()
    export.main(arguments, standalone_mode=False)
    written = np.load(tmp_path / "net.npz")
    expected = weights_of(model)
    assert set(written) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(written[name], value)


@pytest.mark.parametrize("num_codewords", [None, 8])
def test_a_network_comes_back_with_its_weights(tmp_path, num_codewords):
    model = export.build("ResNet8", num_codewords or 0, learned=False, precision="float32")
    generator = np.random.default_rng(1)
    for kernel in sks.layers.sparse_kernels(model):
        kernel.quantizer.selection.start_from(generator.permutation(512)[:8])
    for weight in map(export.raw, model.weights):
        if len(weight.shape) == 1 and "indices" not in weight.name:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    values = weights_of(model)
    for name, value in values.items():
        if name.endswith("_conv/kernel:0"):  # as `run.py` keeps them: signs, which are codewords
            signs = model.get_layer(name.split("/")[0]).kernel_quantizer(value)
            values[name] = np.asarray(signs).astype(np.int8)
    np.savez(tmp_path / "net.npz", **values)
    again = bring_back.network_of(tmp_path / "net.npz", "ResNet8", num_codewords)
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))
    for ours, theirs in zip(*map(sks.layers.sparse_kernels, (again, model))):
        np.testing.assert_array_equal(ours.quantizer.selected(), theirs.quantizer.selected())


def test_weights_of_another_network_are_refused(tmp_path):
    model = export.build("ResNet8", 8, learned=False, precision="float32")
    np.savez(tmp_path / "net.npz", **weights_of(model))
    with pytest.raises(ValueError, match="must hold the variables of ResNet8.*indices"):
        bring_back.network_of(tmp_path / "net.npz", "ResNet8", None)
