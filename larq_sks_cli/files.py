"""Models in files of any kind: reads them all, and writes them so that a kill leaves no half file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf

from larq_sks import storage
from larq_sks._files import write_atomically


def read_model(path: Path) -> tf.keras.Model:
    """Reads a model from a .sks, .keras or .h5 file or a SavedModel folder; it is not compiled.

    Raises:
        ValueError: If there is no such file, or it holds no model that can be read.
    """
    check_exists(path)
    if path.suffix == ".sks":
        return storage.load(path)
    if path.suffix not in (".keras", ".h5", ".hdf5") and not (path / "saved_model.pb").exists():
        raise ValueError(
            f"'{path}' is none of what can be read: a .sks, .keras or .h5 file, or a SavedModel folder."
        )
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever Keras meets in a bad file
        raise ValueError(
            f"'{path}' cannot be read as a Keras model. It must hold a whole one, as `model.save` writes "
            f"it, and no classes of your own. Keras says: {_shortened(str(error))}"
        ) from error
    if not isinstance(model, tf.keras.Model):
        raise ValueError(f"'{path}' holds no Keras model. Write it with `model.save`.")
    return model


def read_tflite(path: Path) -> bytes:
    """Reads a .tflite file. Whether it is one is looked at here, because interpreters trust a file blindly.

    Raises:
        ValueError: If there is no such file, or it is of another kind.
    """
    check_exists(path)
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError(f"'{path}' is no .tflite file.")
    return data


def check_exists(path: Path) -> None:
    """Raises a ValueError unless there is such a file."""
    if not path.exists():
        raise ValueError(f"There is no file '{path}'.")


def write_model(model: tf.keras.Model, path: Path, latent: bool = False) -> None:
    """Writes a model to a .sks, .keras or .h5 file; `latent` is for .sks, the others always hold all."""
    if path.suffix == ".sks":
        storage.save(model, path, latent=latent)
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f"model{path.suffix}")
        model.save(temporary)
        write_atomically(path, temporary.read_bytes())


def _shortened(text: str) -> str:
    """Leaves the middle out, where Keras prints whole configs."""
    text = " ".join(text.split())
    return text if len(text) <= 400 else f"{text[:100]} … {text[-300:]}"
