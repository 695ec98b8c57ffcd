import sys

import pytest

import larq_sks_zoo as zoo
from larq_sks.convert import to_tflite


def test_without_lce_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[lce\]'.*no release for Python 3.12"):
        to_tflite(zoo.ResNet8(), tmp_path / "net.tflite")
