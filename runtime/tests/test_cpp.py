"""The example in C++: built with CMake against the installed package, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import larq_sks_runtime
from interpreters import Ours
from tflite_file import conv_model

EXAMPLE = Path(__file__).parent.parent / "examples" / "cpp"
TFLITE_C = os.environ.get("TFLITE_C")

pytestmark = [
    pytest.mark.skipif(
        TFLITE_C is None,
        reason="TFLITE_C names no folder with TensorFlow Lite's C library; the npm package tfjs-tflite-node has one",
    ),
    pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build = tmp_path_factory.mktemp("build")
    configure = [
        "cmake",
        "-B",
        build,
        "-S",
        EXAMPLE,
        "-D",
        f"TFLITE_C={TFLITE_C}",
        "-D",
        "CMAKE_CXX_FLAGS=-Wall -Werror",
    ]
    subprocess.run(
        [*configure, "-D", f"larq_sks_runtime_DIR={larq_sks_runtime.cmake_dir()}"], check=True
    )
    subprocess.run(["cmake", "--build", build], check=True)
    return build / "run"


@pytest.mark.parametrize("compact", [None, {}])
def test_equal_outputs(program, tmp_path, compact):
    rng = np.random.default_rng(0)
    data = conv_model(rng.choice([-1.0, 1.0], (20, 3, 3, 70)), (1, 9, 8, 70), compact=compact)
    (tmp_path / "net.tflite").write_bytes(data)
    image = rng.normal(size=(1, 9, 8, 70)).astype(np.float32)
    result = subprocess.run(
        [program, tmp_path / "net.tflite"], input=image.tobytes(), capture_output=True, check=True
    )
    (wanted,) = Ours(data)(image)
    np.testing.assert_array_equal(
        np.frombuffer(result.stdout, np.float32).reshape(wanted.shape), wanted
    )


def test_a_wrong_file(program, tmp_path):
    rng = np.random.default_rng(0)
    data = conv_model(rng.choice([-1.0, 1.0], (20, 3, 3, 70)), (1, 9, 8, 70), pad_values=3)
    (tmp_path / "net.tflite").write_bytes(data)
    result = subprocess.run(
        [program, tmp_path / "net.tflite"], input="", capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "option pad_values must be from 0 to 1, and is 3" in result.stderr
