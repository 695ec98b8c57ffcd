"""One stage of a training run, which goes on where it was broken off as if it had not been."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf

from larq_sks_zoo.training import optimizers
from larq_sks_zoo.training.datasets import Data
from larq_sks_zoo.training.folder import LOG, Log
from larq_sks_zoo.training.progress import Bar, Speed
from larq_sks_zoo.training.recipe import Stage

_TEST_BATCH = 500


def schedule(
    stage: Stage, steps: int, rate: float
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """Makes the line of a learning rate over a stage.

    Arguments:
        stage: The stage.
        steps: Steps in an epoch.
        rate: The highest rate.

    Returns:
        A schedule of Keras.
    """
    schedules = tf.keras.optimizers.schedules
    warmup, rest = stage.warmup * steps, (stage.epochs - stage.warmup) * steps
    if stage.decay == "linear":
        return schedules.PolynomialDecay(rate, rest, end_learning_rate=0.0)
    if warmup:
        return schedules.CosineDecay(0.0, rest, warmup_target=rate, warmup_steps=warmup)
    return schedules.CosineDecay(rate, rest)


def optimizer(stage: Stage, steps: int) -> tf.keras.optimizers.Optimizer:
    """Makes the optimizer of a stage; `steps` are those in an epoch."""
    if stage.optimizer == "adam_and_sgd":
        return optimizers.adam_and_sgd(stage.rate, lambda rate: schedule(stage, steps, rate))
    line = schedule(stage, steps, stage.rate)
    return tf.keras.optimizers.Adam(line, weight_decay=stage.weight_decay or None)


def compile_for(model: tf.keras.Model, outputs: str, stage: Stage, steps: int) -> None:
    """Compiles a model for a stage; `outputs` says whether it gives "logits" or "softmax"."""
    loss = tf.keras.losses.CategoricalCrossentropy(
        from_logits=outputs == "logits", label_smoothing=stage.label_smoothing
    )
    model.compile(optimizer(stage, steps), loss, metrics=["accuracy"])


class _Keep(tf.keras.callbacks.Callback):
    """Keeps all that the next epoch depends on, at the end of each."""

    def __init__(self, manager: tf.train.CheckpointManager, epoch: tf.Variable):
        super().__init__()
        self.manager, self.epoch = manager, epoch

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.assign(epoch + 1)
        # Written beside the old one, which is named as the latest until the new one is complete.
        self.manager.save(checkpoint_number=epoch + 1)


def fit(
    model: tf.keras.Model,
    stage: Stage,
    data: Data,
    seed: int,
    folder: Path,
    number: int,
    first_epoch: int,
    callbacks: list[tf.keras.callbacks.Callback],
    is_chief: bool,
    title: str,
) -> None:
    """Trains a compiled model for one stage, from its last complete epoch on.

    Arguments:
        model: The model, compiled for the stage.
        stage: The stage.
        data: What to learn and to test on.
        seed: Decides the batches.
        folder: Folder of the run.
        number: Number of the stage.
        first_epoch: Epochs that earlier stages took.
        callbacks: Those that lead or watch the selections.
        is_chief: Whether this process writes the logs; of several workers one does.
        title: What to say before the number of an epoch.
    """
    steps = data.train_images // stage.batch_size
    backup = folder / "backup" / f"stage{number}"
    epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    model.optimizer.build(model.trainable_variables)
    state = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=epoch)
    with tempfile.TemporaryDirectory() as aside:
        # All workers must save together, but only the chief's files are kept.
        target = backup if is_chief else Path(aside)
        manager = tf.train.CheckpointManager(state, str(target), max_to_keep=2)
        latest = tf.train.latest_checkpoint(str(backup))
        if latest:
            state.restore(latest).assert_existing_objects_matched()
        done = int(epoch.numpy())
        if done == stage.epochs:
            return
        callbacks = [Speed(stage.batch_size), *callbacks]
        bar = Bar(stage.batch_size, title)
        if is_chief:
            log = folder / LOG
            board = tf.keras.callbacks.TensorBoard(
                folder / "tensorboard" / f"stage{number}", write_graph=False
            )
            callbacks += [board, Log(log, first_epoch), bar]
        callbacks.append(_Keep(manager, epoch))
        try:
            model.fit(
                labelled(data.batches(stage.batch_size, seed, done * steps), data.num_classes),
                steps_per_epoch=steps,
                initial_epoch=done,
                epochs=stage.epochs,
                verbose=0,
                validation_data=labelled(data.test(_TEST_BATCH), data.num_classes),
                callbacks=callbacks,
            )
        finally:
            bar.close()


def labelled(batches: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
    """Turns integer labels into one-hot rows, for the smoothing of labels."""
    batches = batches.map(lambda images, labels: (images, tf.one_hot(labels, num_classes)))
    options = tf.data.Options()
    # Workers part each batch among them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)
