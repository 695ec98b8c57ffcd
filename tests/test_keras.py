"""Importing the library where TensorFlow brings Keras 3."""

import subprocess
import sys

import pytest
import tensorflow as tf

from larq_sks import _keras

PROGRAM = """
import sys
import tensorflow as tf

del tf.keras.layers.LocallyConnected1D  # as with Keras 3
try:
    import larq_sks
except ImportError as error:
    assert "larq" not in sys.modules
    print(error)
"""


def test_keras_3_is_refused_with_the_way_out(monkeypatch):
    _keras.check()
    monkeypatch.delattr(tf.keras.layers, "LocallyConnected1D")
    with pytest.raises(ImportError, match=r"Keras 2\. Received: Keras 3.*TF_USE_LEGACY_KERAS=1"):
        _keras.check()


def test_the_import_says_so_before_larq_fails():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert "TF_USE_LEGACY_KERAS" in result.stdout, result.stderr
