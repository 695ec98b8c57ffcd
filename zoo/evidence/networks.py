"""Trained networks on which the experiments and the tests try what the library does."""

from __future__ import annotations

from pathlib import Path

import larq as lq
import numpy as np
import tensorflow as tf

import larq_sks_zoo as zoo

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).parents[3] / "shared" / "data"
XNOR = SHARED / "xnor_vgg16_cifar10.npz"
"""A binary VGG16 that others trained on CIFAR-10 (XNOR-Net form; cooooorn/Pytorch-XNOR-Net, BSD-3-Clause)."""


def resnet8() -> tf.keras.Model:
    """Builds the 1-bit ResNet8 that `selections.py` trained: 73.73 % on CIFAR-10's test images."""
    model = zoo.ResNet8()
    model.load_weights(RESULTS / "parent.weights.h5")
    return model


def resnet20(num_codewords: int | None = None) -> tf.keras.Model:
    """Builds the ResNet-20 that `resnet20.py` trained, at 1 bit or with 32 codewords."""
    model = zoo.ResNet20(num_codewords=num_codewords, selection="fixed")
    name = "resnet20" if num_codewords is None else f"resnet20_n{num_codewords}"
    model.load_weights(RESULTS / f"{name}.weights.h5")
    return model


def xnor_vgg16() -> tf.keras.Model:
    """Rebuilds the XNOR-Net VGG16 in Keras, from images made by `xnor_inputs` to logits.

    Its multipliers are those of `magnitude_aware_sign`: the latent kernels are sign times multiplier. An
    activation of exactly 0 would count as +1 here and as -1 there; none was seen.
    """
    file = np.load(XNOR)
    layers = tf.keras.layers
    weights: dict[str, list] = {}

    def norm(x, name):
        weights[name] = [file[f"{name}.{part}"] for part in ("gamma", "beta", "mean", "variance")]
        return layers.BatchNormalization(epsilon=1e-5, name=name)(x)

    image = layers.Input((32, 32, 3))
    weights["stem"] = [file["stem.kernel"], file["stem.bias"]]
    x = layers.Conv2D(64, 3, padding="same", name="stem")(image)
    x = layers.ReLU(name="stem_relu")(norm(x, "stem.bn_after"))
    for position, name in enumerate(file["plan"]):
        if name == "maxpool":
            x = layers.MaxPooling2D(name=f"pool{position}")(x)
            continue
        shape = tuple(file[f"{name}.kernel_shape"])
        bits = np.unpackbits(file[f"{name}.kernel_bits"], count=np.prod(shape)).reshape(shape)
        weights[name] = [(2.0 * bits - 1.0) * file[f"{name}.alpha"], file[f"{name}.bias"]]
        x = lq.layers.QuantConv2D(
            shape[-1],
            3,
            padding="same",
            input_quantizer="ste_sign",
            kernel_quantizer="magnitude_aware_sign",
            kernel_constraint="weight_clip",
            name=name,
        )(norm(x, f"{name}.bn_before"))
        x = layers.ReLU(name=f"{name}.relu")(norm(x, f"{name}.bn_after"))
    weights["classifier"] = [file["classifier.kernel"], file["classifier.bias"]]
    x = layers.Dense(10, name="classifier")(layers.Flatten(name="flatten")(x))
    model = tf.keras.Model(image, x, name="xnor_vgg16")
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model


def xnor_inputs(images: np.ndarray) -> np.ndarray:
    """Normalises uint8 images as the XNOR-Net VGG16 takes them."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ((images / 255.0 - mean) / deviation).astype(np.float32)


def cifar10_test(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads the first images and labels of CIFAR-10's test part as the shared data orders them."""
    import tensorflow_datasets as tfds

    part = tfds.load(
        "cifar10", data_dir=SHARED / "tfds", download=False, split=f"test[:{count}]", batch_size=-1
    )
    return part["image"].numpy(), part["label"].numpy()
