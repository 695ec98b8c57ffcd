"""Trains a binary ResNet-20 at 1 bit on all of CIFAR-10, then goes on with 32 codewords a layer.

Not a comparison: one seed, a few epochs, a trained network of a usual architecture for the tables of file
sizes. It goes on where it was stopped, and leaves the weights in results/.

    python zoo/evidence/resnet20.py --data-dir ~/tensorflow_datasets
"""

from __future__ import annotations

import click
import tensorflow as tf
from selections import FINE_RATE, RESULTS, SCRATCH_RATE, fit, load_data

import larq_sks as sks
import larq_sks_zoo as zoo


def trained(name: str, make, data, epochs: int, rate: float) -> tf.keras.Model:
    """Trains what `make` builds, with a checkpoint an epoch, unless its weights are there already."""
    path = RESULTS / f"{name}.weights.h5"
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(0)
    if not path.exists():
        model = make()
        callbacks = [
            tf.keras.callbacks.BackupAndRestore(RESULTS / f"{name}.backup"),
            tf.keras.callbacks.CSVLogger(RESULTS / f"{name}.csv", append=True),
        ]
        accuracy = fit(model, data, epochs, rate, 0, callbacks)
        print(f"{name}: {accuracy:.2f} % of 10,000 test images after {epochs} epochs", flush=True)
        # Saved from a copy that was never compiled, so that the file holds no optimizer.
        kept = make()
        kept.set_weights(model.get_weights())
        kept.save_weights(path)
    model = make()
    model.load_weights(path)
    return model


@click.command()
@click.option("--data-dir", help="TensorFlow Datasets' folder with cifar10.")
@click.option("--epochs", default=6, show_default=True, help="Epochs at 1 bit.")
@click.option("--fine-epochs", default=3, show_default=True, help="Epochs with 32 codewords.")
def main(data_dir, epochs, fine_epochs):
    """Trains ResNet-20 at 1 bit and then with 32 codewords."""
    data = load_data(data_dir)
    parent = trained("resnet20", zoo.ResNet20, data, epochs, SCRATCH_RATE)
    weights = [layer.get_weights() for layer in parent.layers]

    def child():
        model = zoo.ResNet20(num_codewords=32, selection=sks.selections.Fixed(seed=0))
        for layer, theirs in zip(model.layers, weights, strict=True):
            layer.set_weights(theirs + layer.get_weights()[len(theirs) :])
        for kernel in sks.layers.sparse_kernels(model):
            start = sks.selections.greedy_coverage(kernel.latent(), 32)
            kernel.quantizer.selection._indices.assign(start)
        return model

    trained("resnet20_n32", child, data, fine_epochs, FINE_RATE)


if __name__ == "__main__":
    main()
