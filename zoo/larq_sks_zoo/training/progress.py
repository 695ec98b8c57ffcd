"""What a training run shows of itself, on stderr."""

from __future__ import annotations

import time

import tensorflow as tf
from rich import progress
from rich.console import Console


class Speed(tf.keras.callbacks.Callback):
    """Adds the learning rate, seconds and images a second of training to the logs of each epoch.

    Place it before callbacks that read logs.

    Arguments:
        batch_size: Images in a step.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_test_begin(self, logs=None):  # the images to test on follow those to learn from
        self.seconds = time.perf_counter() - self.began

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["rate"] = float(tf.keras.backend.get_value(self.model.optimizer.learning_rate))
            logs["seconds"] = round(self.seconds, 2)
            logs["images_a_second"] = round(
                self.params["steps"] * self.batch_size / self.seconds, 1
            )


class Bar(tf.keras.callbacks.Callback):
    """Shows a bar with images a second on a terminal, and prints a line for each epoch.

    Arguments:
        batch_size: Images in a step.
        title: What is trained, such as the number of the stage.
    """

    def __init__(self, batch_size: int, title: str):
        super().__init__()
        self.batch_size, self.title = batch_size, title
        self.console = Console(stderr=True, markup=False, highlight=False)

    def on_train_begin(self, logs=None):
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[speed]}"),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.bar.start()
        self.task = self.bar.add_task("", speed="")

    def on_epoch_begin(self, epoch, logs=None):
        text = f"{self.title}epoch {epoch + 1}/{self.params['epochs']}"
        self.bar.reset(self.task, description=text, total=self.params["steps"], speed="")
        self.began, self.shown = time.perf_counter(), 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.shown > 0.2 or batch + 1 == self.params["steps"]:
            self.shown = now
            speed = (batch + 1) * self.batch_size / (now - self.began)
            text = f"{speed:,.0f} images/s, loss {float((logs or {}).get('loss', 0)):.3f}"
            self.bar.update(self.task, completed=batch + 1, speed=text)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        self.console.print(
            f"{self.title}epoch {epoch + 1}/{self.params['epochs']}: loss {logs['loss']:.4f}, accuracy "
            f"{logs['accuracy']:.2%}, on test images {logs['val_accuracy']:.2%}; "
            f"{logs['images_a_second']:,.0f} images/s"
        )

    def close(self) -> None:
        """Takes the bar away, after an error too."""
        if hasattr(self, "bar"):
            self.bar.stop()
