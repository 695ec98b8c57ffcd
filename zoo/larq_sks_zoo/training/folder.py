"""The folder of a training run: what it belongs to, its log, and its results."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import tensorflow as tf

from larq_sks._files import write_atomically

RUN, LOG, NETWORK, WEIGHTS = "run.json", "log.csv", "final.sks", "final.weights.h5"


def begin(output: Path, settings: dict, write: bool = True) -> dict | None:
    """Makes the folder of a run, or finds in it the same run, begun or finished.

    Arguments:
        output: The folder. A new one is made.
        settings: What decides the result, as JSON can hold it.
        write: Whether to note the settings in a new folder.

    Returns:
        The record of the run if it is finished, otherwise `None`.

    Raises:
        ValueError: If the folder belongs to a run with other settings, or holds something else.
    """
    # As they come back from the file.
    settings = json.loads(json.dumps(settings))
    path = output / RUN
    if path.exists():
        record = json.loads(path.read_text("utf-8"))
        theirs = record.get("settings", {})
        names = [name for name in settings if settings[name] != theirs.get(name)]
        if names:
            listed = "; ".join(f"{n}: {theirs.get(n)!r} there, {settings[n]!r} now" for n in names)
            raise ValueError(
                f"'{output}' belongs to another run ({listed}). Name another folder by --output, or call "
                "it as it was to go on."
            )
        return record if "results" in record else None
    if write:
        if output.is_dir() and any(output.iterdir()):
            raise ValueError(
                f"'{output}' must be a new or empty folder, or that of a run that was broken off. Name "
                "another by --output."
            )
        output.mkdir(parents=True, exist_ok=True)
        write_json(path, {"settings": settings})
    return None


def write_json(path: Path, record: dict) -> None:
    """Writes a record so that a kill leaves the old one or the new."""
    write_atomically(path, (json.dumps(record, indent=2, default=str) + "\n").encode())


class Log(tf.keras.callbacks.Callback):
    """Writes a row for each epoch; rows of epochs that are done again are replaced.

    Arguments:
        path: The .csv file.
        first: Epochs that earlier stages took.
    """

    def __init__(self, path: Path, first: int):
        super().__init__()
        self.path, self.first = path, first

    def on_epoch_end(self, epoch, logs=None):
        rows: list[dict] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                rows = [
                    row for row in csv.DictReader(file) if int(row["epoch"]) < self.first + epoch
                ]
        rows.append({"epoch": self.first + epoch, **(logs or {})})
        # Stages may log other things: all columns, in the order in which they came.
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator=os.linesep)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
