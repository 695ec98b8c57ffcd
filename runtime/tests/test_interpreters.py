"""The delegate in the life of an interpreter: shapes that change, threads, what users may do wrong."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import larq_sks_runtime
import oracle
from interpreters import ISAS, STOCK, Ours
from tflite_file import SAME, File, conv_model, conv_options, pack, read, schema, words, write

RNG = np.random.default_rng(1)
SIGNS = RNG.choice([-1.0, 1.0], (16, 3, 3, 40))
every_stock = pytest.mark.parametrize("stock", sorted(STOCK))


def _images(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _wanted(images, **changes):
    options = conv_options(40, **changes)
    ones, zeros = np.ones(16), np.zeros(16)
    return oracle.conv(images, SIGNS, 1, options, "float32", ones, zeros, None, 0, 0)


@every_stock
@pytest.mark.parametrize("pad_values", [0, 1])
def test_resize(stock, pad_values):
    ours = Ours(conv_model(SIGNS, (1, 8, 8, 40), pad_values=pad_values), stock=stock)
    for shape in [
        (1, 8, 8, 40),
        (3, 8, 8, 40),
        (1, 1, 1, 40),
        (2, 13, 5, 40),
        (1, 40, 33, 40),
        (1, 8, 8, 40),
    ]:
        images = _images(*shape)
        np.testing.assert_array_equal(
            ours(images)[0], _wanted(images, pad_values=pad_values), strict=True
        )


@every_stock
def test_after_an_error_the_next_size_runs(stock):
    ours = Ours(conv_model(SIGNS, (1, 8, 8, 40)), stock=stock)
    with pytest.raises((RuntimeError, ValueError), match="the last of 2 words for 40 channels"):
        ours(_images(1, 8, 8, 10))
    images = _images(1, 4, 8, 40)
    np.testing.assert_array_equal(ours(images)[0], _wanted(images))


@every_stock
def test_a_size_known_only_at_run_time(stock):
    # RESHAPE to a shape that is an input: the tensors behind it are dynamic.
    file = File()
    flat, shape = file.tensor((2560,), np.float32), file.tensor((4,), np.int32)
    images = file.tensor((1, 8, 8, 40), np.float32)
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    file.model.operatorCodes.append(code)
    reshape = schema.OperatorT()
    reshape.opcodeIndex, reshape.inputs, reshape.outputs = 0, [flat, shape], [images]
    file.graph.operators.append(reshape)
    bits, result = file.tensor((1, 8, 8, 2), np.int32), file.tensor((1, 8, 8, 16), np.float32)
    file.op("LceQuantize", [images], bits)
    one, zero = (file.constant(np.full(16, value, np.float32)) for value in (1, 0))
    file.op(
        "LceBconv2d", [bits, file.constant(pack(SIGNS)), one, zero, -1], result, conv_options(40)
    )
    ours = Ours(file.finish([flat, shape], [result]), stock=stock)
    for size in [(1, 8, 8, 40), (2, 4, 8, 40), (1, 2, 32, 40)]:
        values = _images(*size)
        got = ours(values.reshape(-1), np.array(size, np.int32))[0]
        np.testing.assert_array_equal(got, _wanted(values), strict=True)
    with pytest.raises((RuntimeError, ValueError), match="the last of 2 words for 40 channels"):
        ours(values.reshape(-1), np.array((1, 1, 1, 2560), np.int32))


@every_stock
def test_tensors_that_others_want(stock):
    # The packed input is an output of the model, too, and every tensor is to be kept.
    model = read(conv_model(SIGNS, (1, 8, 8, 40)))
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, graph.operators[1].inputs[0]]
    images = _images(1, 8, 8, 40)
    result, bits = Ours(write(model), stock=stock)(images)
    np.testing.assert_array_equal(bits, pack(images))
    np.testing.assert_array_equal(result, _wanted(images))
    interpreter = STOCK[stock](
        model_content=conv_model(SIGNS, (1, 8, 8, 40)),
        experimental_preserve_all_tensors=True,
        experimental_delegates=[larq_sks_runtime.load_delegate()],
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, images)
    interpreter.invoke()
    np.testing.assert_array_equal(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), result
    )


@every_stock
@pytest.mark.parametrize("shared", [False, True], ids=["own delegates", "one delegate"])
def test_interpreters_in_parallel(stock, shared):
    data = conv_model(SIGNS, (1, 24, 24, 40))
    common = larq_sks_runtime.load_delegate(num_threads=2, kernel="classic")
    images = [_images(1, 24, 24, 40) for _ in range(4)]
    wrong = []

    def work(mine):
        delegate = (
            common if shared else larq_sks_runtime.load_delegate(num_threads=2, kernel="classic")
        )
        interpreter = STOCK[stock](model_content=data, experimental_delegates=[delegate])
        interpreter.allocate_tensors()
        wanted = _wanted(mine)
        for _ in range(30):
            interpreter.set_tensor(0, mine)
            interpreter.invoke()
            if not np.array_equal(
                interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), wanted
            ):
                wrong.append("outputs differ")

    workers = [threading.Thread(target=work, args=(mine,)) for mine in images]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _threads():
    return len(os.listdir("/proc/self/task"))


def test_threads_come_and_go_with_the_delegate():
    data = conv_model(SIGNS, (1, 8, 8, 40))
    images = _images(1, 8, 8, 40)
    Ours(data)(images)
    gc.collect()
    before = _threads()
    for _ in range(20):
        ours = Ours(data, num_threads=3)
        ours(images)
        assert _threads() == before + 2
        del ours
    assert _threads() == before


def test_memory_is_given_back():
    data = conv_model(RNG.choice([-1.0, 1.0], (128, 3, 3, 128)), (1, 32, 32, 128))
    images = _images(1, 32, 32, 128)

    def pages():
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(5):
        Ours(data)(images)
    before = pages()
    for _ in range(60):
        Ours(data)(images)
    assert (pages() - before) * 4096 < 8 << 20  # one round uses about as much


def test_a_single_convolution_of_bits():
    # A model whose input and output are packed already.
    file = File()
    bits = file.tensor((1, 5, 5, 2), np.int32)
    result = file.tensor((1, 5, 5, 1), np.int32)
    thresholds = file.constant(np.full(16, 180, np.int32))
    file.op(
        "LceBconv2d",
        [bits, file.constant(pack(SIGNS)), -1, -1, thresholds],
        result,
        conv_options(40),
    )
    images = _images(1, 5, 5, 40)
    got = Ours(file.finish([bits], [result]))(pack(images))[0]
    wanted = oracle.conv(
        images, SIGNS, 1, conv_options(40), "bits", None, None, np.full(16, 180), 0, 0
    )
    np.testing.assert_array_equal(got, pack(wanted), strict=True)


def test_compact_file_is_smaller():
    signs = RNG.choice([-1.0, 1.0], (32, 3, 3))[RNG.integers(32, size=(256, 256))].transpose(
        0, 2, 3, 1
    )
    plain = conv_model(signs, (1, 8, 8, 256), padding=SAME)
    compact = conv_model(signs, (1, 8, 8, 256), padding=SAME, compact={})
    rest = len(conv_model(signs[:, :1, :1, :1], (1, 8, 8, 1)))  # all but the filter, nearly
    assert len(plain) - rest == pytest.approx(256 * words(256) * 4 * 9, rel=0.02)
    assert len(compact) - rest == pytest.approx(256 * 256 * 5 / 8, rel=0.05)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"num_threads": 0}, "`num_threads` must be an integer from 1 to 64, or None. Received: 0"),
        ({"num_threads": 1.0}, "Received: 1.0"),
        ({"num_threads": True}, "Received: True"),
        ({"num_threads": 65}, "num_threads must be from 1 to 64.*Received: 65"),
        ({"isa": "sse"}, f"isa must be one .* have: auto, {', '.join(ISAS)}. Received: sse"),
        ({"kernel": "fast"}, "kernel must be auto, classic or shared. Received: fast"),
    ],
)
def test_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        larq_sks_runtime.load_delegate(**arguments)


def test_as_a_plug_in_of_the_interpreters_own_loader():
    loaders = {}
    if "tensorflow" in STOCK:
        import tensorflow

        loaders["tensorflow"] = tensorflow.lite.experimental.load_delegate
    if "ai_edge_litert" in STOCK:
        from ai_edge_litert.interpreter import load_delegate

        loaders["ai_edge_litert"] = load_delegate
    if not loaders:
        pytest.skip("neither tensorflow nor ai-edge-litert is installed")
    images = _images(1, 8, 8, 40)
    for stock, load in loaders.items():
        delegate = load(larq_sks_runtime.library_path(), {"num_threads": 2})
        interpreter = STOCK[stock](
            model_content=conv_model(SIGNS, (1, 8, 8, 40)), experimental_delegates=[delegate]
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, images)
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_array_equal(got, _wanted(images))
        with pytest.raises(
            ValueError, match="options are num_threads, isa and kernel. Received: colour"
        ):
            load(larq_sks_runtime.library_path(), {"colour": "red"})


def test_import_without_the_library(tmp_path):
    package = Path(larq_sks_runtime.__file__).parent
    (tmp_path / "larq_sks_runtime").mkdir()
    (tmp_path / "larq_sks_runtime" / "__init__.py").write_text(
        (package / "__init__.py").read_text()
    )
    result = subprocess.run(
        [sys.executable, "-c", "import larq_sks_runtime"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "ImportError: larq-sks-runtime needs its compiled library" in result.stderr
    assert "pip install ./runtime" in result.stderr


def test_it_needs_no_interpreter_to_be_imported():
    code = "import sys, larq_sks_runtime as r; r.load_delegate(); print(any('tensorflow' in m for m in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_symbols():
    # What else it contains must not meet the C++ library or TensorFlow of the program that loads it.
    try:
        output = subprocess.run(
            ["nm", "-D", "--defined-only", larq_sks_runtime.library_path()],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        pytest.skip("nm is not installed")
    assert sorted(line.split()[-1] for line in output.splitlines()) == [
        "larq_sks_delegate_create",
        "larq_sks_delegate_delete",
        "tflite_plugin_create_delegate",
        "tflite_plugin_destroy_delegate",
    ]


def test_a_delegate_that_outlives_the_module_is_deleted_quietly():
    # As Python does when it ends, where something still holds the delegate.
    program = "import larq_sks_runtime as r; d = r.load_delegate(); r._library = None; del d"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
