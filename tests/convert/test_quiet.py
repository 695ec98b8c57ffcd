"""What is said while a file for LCE is made."""

import logging
import os
import subprocess
import sys

import pytest

from larq_sks.convert.quiet import without_progress, without_stderr

PROGRAM = """
import logging
import sys
import larq as lq
import tensorflow as tf
from larq_sks import to_tflite

logging.getLogger("tensorflow").setLevel(logging.INFO)  # as in a notebook
sign = dict(input_quantizer="ste_sign", kernel_quantizer="ste_sign")
layer = lq.layers.QuantConv2D(4, 3, kernel_constraint="weight_clip", **sign)
model = tf.keras.Sequential([tf.keras.Input((6, 6, 4)), layer])
print("begin", flush=True)
print("begin", file=sys.stderr, flush=True)
to_tflite(model, sys.argv[1])
"""


def test_warnings_stay_and_what_was_set_comes_back(caplog, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "propagate", True)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with without_progress():
            assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "1"
            logger.info("progress")
            logger.warning("trouble")
        assert [record.message for record in caplog.records] == ["trouble"]
        assert logger.level == logging.INFO and "TF_CPP_MIN_LOG_LEVEL" not in os.environ
        logger.setLevel(logging.ERROR)
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
        with without_progress():
            assert logger.level == logging.ERROR and os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    finally:
        logger.setLevel(level)


def test_standard_error_is_hidden_unless_there_is_an_error(capfd):
    with without_stderr():
        os.write(2, b"chatter")
    os.write(2, b"again")
    assert capfd.readouterr().err == "again"

    @without_stderr()
    def fail():
        os.write(2, b"the reason")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert capfd.readouterr().err == "the reason"


def test_to_tflite_says_nothing_of_its_own(tmp_path):
    pytest.importorskip("larq_compute_engine", reason="LCE has no release for this Python")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "net.tflite")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for stream in (result.stdout, result.stderr):
        assert stream.partition("begin\n")[2] == ""
    assert (tmp_path / "net.tflite").exists()
