"""Writes the files that each later version must read: `python tests/storage/golden.py`.

Run it when the format gets a new version, under a new name; files of older versions are never written again.
"""

from pathlib import Path

import larq as lq
import numpy as np
import tensorflow as tf

import larq_sks as sks
from larq_sks import storage

FOLDER = Path(__file__).parent / "data"


def network() -> tf.keras.Model:
    """Makes a network whose kernels are stored in each of the four ways."""
    layers = tf.keras.layers
    clip = dict(kernel_constraint="weight_clip")
    options = dict(
        padding="same", pad_values=1.0, input_quantizer="ste_sign", use_bias=False, **clip
    )
    image = layers.Input((6, 6, 8), name="image")
    x = sks.layers.SKSConv2D(8, 3, num_codewords=4, name="packed", **options)(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = sks.layers.SKSConv2D(24, 3, num_codewords=12, name="coded", **options)(x)
    for name in ("columns", "rows"):
        x = lq.layers.QuantConv2D(24, 3, kernel_quantizer="ste_sign", name=name, **options)(x) + x
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    quantizer = sks.quantizers.SparseKernelSign(6, "fixed", scale=True)
    x = lq.layers.QuantDense(8, kernel_quantizer=quantizer, name="scaled", **clip)(x)
    x = lq.layers.QuantDense(3, kernel_quantizer="ste_tern", name="ternary")(x)
    return tf.keras.Model(image, x, name="golden")


def latent_network() -> tf.keras.Model:
    """Makes a small network to be stored with its latent weights and logits."""
    selection = sks.selections.Permutation(temperature=0.5, seed=0)
    return tf.keras.Sequential(
        [
            sks.layers.SKSDense(
                8,
                num_codewords=5,
                selection=selection,
                codeword_shape=(4,),
                input_shape=(12,),
                name="first",
            ),
            lq.layers.QuantDense(
                4, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="second"
            ),
        ],
        name="latent",
    )


def fill(model: tf.keras.Model, seed: int = 0) -> np.random.Generator:
    """Sets all weights and selections."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype == tf.float32 and weight.shape.rank:
            values = random.normal(size=weight.shape).astype(np.float32)
            weight.assign(np.abs(values) + 0.1 if "variance" in weight.name else values)
    for kernel in sks.layers.sparse_kernels(model):
        patterns = 2 ** np.prod(kernel.quantizer.block_shape)
        chosen = random.permutation(patterns)[: kernel.quantizer.num_codewords]
        kernel.quantizer.selection._indices.assign(chosen)
    return random


def fill_kernels(model: tf.keras.Model, random: np.random.Generator) -> None:
    """Chooses codewords such that each way of storing them is the shortest once."""
    coded = model.get_layer("coded")
    shares = 0.5 ** np.arange(1, 13)
    chosen = random.choice(coded.kernel_quantizer.selected(), 8 * 24, p=shares / shares.sum())
    coded.kernel.assign(sks.codebook.to_signs(chosen, 9).T.reshape(3, 3, 8, 24))
    for name, axis in (("columns", 3), ("rows", 2)):
        # Channels that are noisy copies of one of four.
        signs = np.sign(random.normal(size=(3, 3, 24, 24)))
        copies = np.take(signs, np.arange(24) % 4, axis=axis)
        noise = random.random(copies.shape) < 0.04
        model.get_layer(name).kernel.assign(np.where(noise, -copies, copies))


def expected(model: tf.keras.Model) -> dict[str, np.ndarray]:
    """Returns what a loaded network must give: outputs, and all weights as the layers use them."""
    inputs = np.random.default_rng(1).normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    found = {"outputs": model(inputs).numpy()}
    with lq.context.quantized_scope(True):
        for layer in model.layers:
            for weight in layer._trainable_weights + layer._non_trainable_weights:
                found[f"{layer.name}/{weight.name.split('/')[-1]}"] = weight.numpy()
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    model = network()
    fill_kernels(model, fill(model))
    storage.save(model, FOLDER / "v1.sks")
    storage.save(model, FOLDER / "v1_int8.sks", floats="int8")
    np.savez_compressed(FOLDER / "v1.npz", **expected(model))
    latent = latent_network()
    fill(latent)
    storage.save(latent, FOLDER / "v1_latent.sks", latent=True)
    np.savez_compressed(FOLDER / "v1_latent.npz", **expected(latent))
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
