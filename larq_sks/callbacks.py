"""Callbacks that lead a learned selection through a training run, and that report on it."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from larq_sks._checks import check_number
from larq_sks._pictured import chosen_codewords
from larq_sks.layers import SparseKernel, sparse_kernels
from larq_sks.models import Codewords, codewords
from larq_sks.selections import Permutation
from larq_sks.starts import STARTS


def _learned(model) -> list[SparseKernel]:
    """The kernels of a model whose selection is learned."""
    return [
        kernel
        for kernel in sparse_kernels(model)
        if kernel.quantizer.uses_selection and isinstance(kernel.quantizer.selection, Permutation)
    ]


class SelectionSchedule(tf.keras.callbacks.Callback):
    """Leads every `Permutation` of a model through its phases: 1 bit → learn → frozen.

    In the first part of the run all 2^K codewords may be used. Then each kernel chooses its start from
    its own latent weights, and learns its selection from there, with temperature and noise moving from
    their first to their last value. In the last part the selection stays as it is, so that weights and
    batch-norm statistics settle on it. Without this callback a `Permutation` learns all the time.

    Example:
        ```python
        model.fit(data, epochs=20, callbacks=[sks.callbacks.SelectionSchedule(whole=0.5)])
        ```

    Arguments:
        whole: The part of the run, from 0 to 1, that is trained with the whole codebook. With 0 the
            selection learns from where it stands.
        frozen: The last part of the run, from 0 to 1, in which the selection no longer changes.
        start: How a kernel chooses its start at the end of the first part: `"coverage"`
            (`selections.greedy_coverage` by latent score), `"exchanged"` (`selections.exchanged_coverage`)
            or `"frequent"` (`selections.most_frequent`). It takes the place of the selection's own start;
            without a first part (`whole=0`) there is nothing to choose.
        temperature: First and last temperature of the learning part, above 0, in between on a geometric
            line; one number keeps it constant; `None` leaves the selections' own.
        noise: First and last noise of the learning part, 0 or more, in between on a straight line; one
            number keeps it constant; `None` leaves the selections' own.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the model has no learned
            selection or was compiled with `steps_per_execution` above 1, or if the number of steps in an
            epoch is not known.
    """

    def __init__(
        self,
        whole: float = 0.0,
        frozen: float = 0.4,
        start: str = "coverage",
        temperature: float | tuple[float, float] | None = None,
        noise: float | tuple[float, float] | None = None,
    ):
        super().__init__()
        self.whole = check_number("whole", whole)
        self.frozen = check_number("frozen", frozen)
        if self.whole + self.frozen > 1:
            raise ValueError(
                "`whole` and `frozen` are parts of one run, so their sum must be at most 1. "
                f"Received: whole={whole}, frozen={frozen}."
            )
        if start not in STARTS:
            raise ValueError(f"`start` must be one of {tuple(STARTS)}. Received: start={start!r}.")
        self.start = start
        self.temperature = _first_and_last("temperature", temperature, positive=True)
        self.noise = _first_and_last("noise", noise)

    def on_train_begin(self, logs=None):
        self._kernels = _learned(self.model)
        if not self._kernels:
            raise ValueError(
                "`SelectionSchedule` needs a model with a learned selection, such as a layer "
                "`SKSConv2D(..., selection='permutation')`, that has been built. "
                f"Received: {self.model.name}, which has none."
            )
        if self.params.get("steps") is None:
            raise ValueError(
                "`SelectionSchedule` must know the number of steps in an epoch to divide the run into "
                "parts. Received: a dataset of unknown size. Give `fit` the argument `steps_per_epoch`."
            )
        at_once = getattr(self.model, "_steps_per_execution", None)
        steps_at_once = 1 if at_once is None else int(tf.keras.backend.get_value(at_once))
        if steps_at_once > 1:
            raise ValueError(
                "`SelectionSchedule` acts between single training steps, so the model must be compiled with "
                f"steps_per_execution=1. Received: steps_per_execution={steps_at_once}."
            )
        self._phase = self._hundredth = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params["steps"]
        step, total = self._epoch * steps + batch, self.params["epochs"] * steps
        # Without rounding errors, for which 1 - 0.7 is more than 0.3.
        learn = math.ceil(self.whole * total - 1e-6)
        freeze = math.ceil((1.0 - self.frozen) * total - 1e-6)
        phase = "whole" if step < learn else "learn" if step < freeze else "frozen"
        if phase != self._phase:
            self._phase = phase
            for kernel in self._kernels:
                self._enter(phase, kernel)
        # A hundred values of temperature and noise are smooth enough, and cost no time.
        hundredth = 100 * step // total
        if phase == "learn" and (hundredth != self._hundredth or step == freeze - 1):
            self._hundredth = hundredth
            self._anneal((step - learn) / max(1, freeze - 1 - learn))

    def _enter(self, phase: str, kernel: SparseKernel) -> None:
        selection, shape = kernel.quantizer.selection, kernel.quantizer.block_shape
        before = selection.phase
        if before == phase:
            return
        if before == "whole":
            choose = STARTS[self.start]
            selection.start_from(choose(kernel.latent(), kernel.quantizer.num_codewords, shape))
        selection.phase = phase

    def _anneal(self, part: float) -> None:
        for kernel in self._kernels:
            selection = kernel.quantizer.selection
            if self.temperature:
                first, last = self.temperature
                selection.temperature = first * (last / first) ** part
            if self.noise:
                first, last = self.noise
                selection.noise = first + (last - first) * part


def _first_and_last(name, value, positive=False) -> tuple[float, float] | None:
    if value is None:
        return None
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"`{name}` must be one number, a pair (first, last), or `None`. Received: {name}={value!r}."
        )
    first, last = (check_number(name, number, positive) for number in pair)
    return first, last


class SelectionLog(tf.keras.callbacks.Callback):
    """Adds to the logs of each epoch how the selected codewords move and how they are used.

    `codewords_changed`: codewords that were not selected when the last epoch ended, in all kernels whose
    number of codewords is the same as then: that a kernel's first part begins or ends, in which it may use the
    whole codebook, is no change.
    `codeword_entropy`: entropy of the use of the codewords in bits a block, mean over all blocks.
    `selection_gap`: how far the relaxed selection is from the hard one: the share of a codeword's column
    that lies on other rows, from 0 to 1, mean over codewords of the kernels that are learning just then
    (NaN where none is).

    Its attribute `selected` is a list with the selected codewords of each kernel, by name, after each
    epoch of the last `fit`; `larq_sks.plot.selection` draws it. Place the callback before others that read
    logs (CSVLogger, TensorBoard).

    Example:
        ```python
        log = sks.callbacks.SelectionLog(tensorboard="logs")
        model.fit(data, epochs=20, callbacks=[log, tf.keras.callbacks.TensorBoard("logs")])
        sks.plot.selection(log.selected)
        ```

    Arguments:
        tensorboard: A folder of TensorBoard's logs, to write pictures to after each epoch, with
            matplotlib: the tiles of each kernel that has chosen its codewords, how all use
            them, and the selection over training. They stand there as the run `selection`. `None` for
            no pictures.

    Raises:
        ImportError: If `tensorboard` is given and matplotlib is not installed.
    """

    def __init__(self, tensorboard: str | os.PathLike | None = None):
        super().__init__()
        self.tensorboard = tensorboard
        if tensorboard is not None:
            importlib.import_module("larq_sks.plot")  # fails now rather than after an epoch
        self.selected: list[dict[str, np.ndarray]] = []

    def on_train_begin(self, logs=None):
        self.selected = []
        self._before = self._now()
        if self.tensorboard is not None:
            folder = os.path.join(self.tensorboard, "selection")
            self._writer = tf.summary.create_file_writer(folder)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        after = self._now()
        logs["codewords_changed"] = sum(
            len(np.setdiff1d(chosen, self._before[name]))
            for name, chosen in after.items()
            if len(chosen) == len(self._before[name])
        )
        self._before = after
        self.selected.append(after)
        used = codewords(self.model)
        blocks = sum(kernel.counts.sum() for kernel in used.values())
        entropies = (kernel.entropy * kernel.counts.sum() for kernel in used.values())
        logs["codeword_entropy"] = sum(entropies) / blocks
        selections = [kernel.quantizer.selection for kernel in _learned(self.model)]
        gaps = [_gap(selection) for selection in selections if selection.phase == "learn"]
        if selections:  # in every epoch, as CSVLogger takes its columns from the first
            logs["selection_gap"] = math.fsum(gaps) / len(gaps) if gaps else math.nan
        if self.tensorboard is not None:
            self._write_pictures(epoch, used)

    def on_train_end(self, logs=None):
        if self.tensorboard is not None:
            self._writer.close()

    def _write_pictures(self, epoch: int, used: dict[str, Codewords]) -> None:
        from larq_sks import plot
        from larq_sks._picture_files import drawn

        pictures: dict[str, Callable] = {
            "use": partial(plot.use, used),
            "selection": partial(plot.selection, self.selected),
        }
        for name, kernel in chosen_codewords(used).items():
            pictures[f"codewords/{name}"] = partial(plot.tiles, kernel)
        with self._writer.as_default(epoch):
            for name, draw in pictures.items():
                image = tf.io.decode_png(drawn(draw, "png"))
                tf.summary.image(name, image[tf.newaxis])
        self._writer.flush()

    def _now(self) -> dict[str, np.ndarray]:
        return {kernel.name: kernel.quantizer.selected() for kernel in sparse_kernels(self.model)}


def _gap(selection: Permutation) -> float:
    plan, indices = selection.relaxed().numpy(), selection.indices
    return 1.0 - float(plan[indices, np.arange(len(indices))].mean())
