"""Larq's layers with kernels of n codewords: change the class, keep the rest of the network."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks import codebook
from larq_sks.quantizers import SparseKernelSign

_register = tf.keras.utils.register_keras_serializable(package="larq_sks")


def _with_signature_of(twin):
    """Shows the Larq twin's arguments in `help()`, with ours in place of its quantizers."""

    def decorate(cls):
        arguments = inspect.signature(cls.__init__).parameters.values()
        ours = [argument for argument in arguments if argument.kind is argument.KEYWORD_ONLY]
        hidden = {"self", "kwargs", *(f"{role}_quantizer" for role in cls._roles)}
        arguments = inspect.signature(twin.__init__).parameters.values()
        theirs = [argument for argument in arguments if argument.name not in hidden]
        rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        cls.__signature__ = inspect.Signature([*theirs, *ours, rest])
        return cls

    return decorate


class _SparseKernels(tf.keras.layers.Layer):
    """Puts a `SparseKernelSign` on each kernel of a Larq layer and builds it with the layer."""

    # For each kernel Larq's prefix of its quantizer and constraint, and the name of the weight.
    _roles = {"kernel": "kernel"}

    def _quantizer_arguments(self, kwargs, quantizers):
        for role, quantizer in quantizers.items():
            if f"{role}_quantizer" in kwargs:
                raise ValueError(
                    f"`{role}_quantizer` is not an argument of `{type(self).__name__}`, whose kernel "
                    "always has `num_codewords` codewords. "
                    f"Received: {role}_quantizer={kwargs[f'{role}_quantizer']!r}. "
                    "Use Larq's own layer for another quantizer."
                )
            kwargs[f"{role}_quantizer"] = quantizer
            # Without it latent weights leave the range in which they learn, as Larq warns.
            kwargs.setdefault(f"{role}_constraint", "weight_clip")
        return kwargs

    def build(self, input_shape):
        super().build(input_shape)
        for role, weight in self._roles.items():
            quantizer = getattr(self, f"{role}_quantizer")
            with tf.name_scope(quantizer.name):
                quantizer.build(getattr(self, weight).shape)

    def get_config(self):
        config = super().get_config()
        for role in self._roles:
            del config[f"{role}_quantizer"]
        return config


class _SparseKernel(_SparseKernels):
    """A layer with one kernel."""

    def __init__(
        self,
        *args,
        num_codewords: int = 32,
        selection="permutation",
        codeword_shape=None,
        clip_value: float | None = 1.0,
        **kwargs,
    ):
        (role,) = self._roles
        quantizer = SparseKernelSign(num_codewords, selection, codeword_shape, clip_value)
        super().__init__(*args, **self._quantizer_arguments(kwargs, {role: quantizer}))

    def get_config(self):
        (role,) = self._roles
        options = getattr(self, f"{role}_quantizer").get_config()
        names = ("num_codewords", "selection", "codeword_shape", "clip_value")
        return {**super().get_config(), **{name: options[name] for name in names}}


@_register
@_with_signature_of(lq.layers.QuantConv2D)
class SKSConv2D(_SparseKernel, lq.layers.QuantConv2D):
    """Convolves with a binary kernel that uses n codewords: `lq.layers.QuantConv2D` at a fraction of a bit.

    Example:
        ```python
        sks.layers.SKSConv2D(64, 3, num_codewords=32, input_quantizer="ste_sign", padding="same",
                             pad_values=1.0, use_bias=False)
        ```

    Arguments:
        *args: As for `lq.layers.QuantConv2D`, in its order.
        num_codewords: Number n of sign patterns that the kernel's blocks of K weights may take, 1 to 2^K.
        selection: Who chooses them: `"permutation"` (learned), `"fixed"` (a random subset), or an object
            from `larq_sks.selections`, which is copied.
        codeword_shape: The block's size along each axis of the kernel (height, width, input channels,
            output channels; the last may be left out), at most 16 weights. `None`: (3, 3, 1) for a 3×3
            kernel, 8 input channels for any other.
        clip_value: Largest absolute latent weight that still learns, above 0; `None` for no limit.
        **kwargs: As for `lq.layers.QuantConv2D`, but for `kernel_quantizer`. The default of
            `kernel_constraint` is `"weight_clip"`.

    Raises:
        ValueError: If an argument is out of range or (when built) does not fit the kernel.

    References:
        - [Compacting Binary Neural Networks by Sparse Kernel Selection](https://arxiv.org/abs/2303.14470)
    """


@_register
@_with_signature_of(lq.layers.QuantConv2DTranspose)
class SKSConv2DTranspose(_SparseKernel, lq.layers.QuantConv2DTranspose):
    """Does a transposed convolution with a binary kernel of n codewords: `lq.layers.QuantConv2DTranspose`.

    Example:
        ```python
        sks.layers.SKSConv2DTranspose(32, 3, strides=2, num_codewords=32, input_quantizer="ste_sign")
        ```

    Arguments:
        *args: As for `lq.layers.QuantConv2DTranspose`, in its order.
        num_codewords: Number n of sign patterns that the kernel's blocks of K weights may take, 1 to 2^K.
        selection: As for `SKSConv2D`.
        codeword_shape: As for `SKSConv2D`; the kernel's axes are height, width, output channels, input
            channels. `None`: (3, 3, 1) for a 3×3 kernel, 8 output channels for any other.
        clip_value: As for `SKSConv2D`.
        **kwargs: As for `lq.layers.QuantConv2DTranspose`, but for `kernel_quantizer`. The default of
            `kernel_constraint` is `"weight_clip"`.

    Raises:
        ValueError: If an argument is out of range or (when built) does not fit the kernel.
    """


@_register
@_with_signature_of(lq.layers.QuantDense)
class SKSDense(_SparseKernel, lq.layers.QuantDense):
    """Multiplies by a binary matrix that uses n codewords: `lq.layers.QuantDense`.

    Example:
        ```python
        sks.layers.SKSDense(128, num_codewords=32, input_quantizer="ste_sign")  # 0.625 bit a weight
        ```

    Arguments:
        *args: As for `lq.layers.QuantDense`, in its order.
        num_codewords: Number n of sign patterns that the kernel's blocks of K weights may take, 1 to 2^K.
        selection: As for `SKSConv2D`.
        codeword_shape: The block's size along inputs and units (the last may be left out), at most 16
            weights. `None`: 8 inputs, if their number divides by 8.
        clip_value: As for `SKSConv2D`.
        **kwargs: As for `lq.layers.QuantDense`, but for `kernel_quantizer`. The default of
            `kernel_constraint` is `"weight_clip"`.

    Raises:
        ValueError: If an argument is out of range or (when built) does not fit the kernel.
    """


@_register
@_with_signature_of(lq.layers.QuantDepthwiseConv2D)
class SKSDepthwiseConv2D(_SparseKernel, lq.layers.QuantDepthwiseConv2D):
    """Convolves each channel with a binary kernel of n codewords: `lq.layers.QuantDepthwiseConv2D`.

    Example:
        ```python
        sks.layers.SKSDepthwiseConv2D(3, num_codewords=16, input_quantizer="ste_sign")
        ```

    Arguments:
        *args: As for `lq.layers.QuantDepthwiseConv2D`, in its order.
        num_codewords: Number n of sign patterns that the kernel's blocks of K weights may take, 1 to 2^K.
        selection: As for `SKSConv2D`.
        codeword_shape: As for `SKSConv2D`; the kernel's axes are height, width, channels, multiplier.
        clip_value: As for `SKSConv2D`.
        **kwargs: As for `lq.layers.QuantDepthwiseConv2D`, but for `depthwise_quantizer`. The default of
            `depthwise_constraint` is `"weight_clip"`.

    Raises:
        ValueError: If an argument is out of range or (when built) does not fit the kernel.
    """

    _roles = {"depthwise": "depthwise_kernel"}


@_register
@_with_signature_of(lq.layers.QuantSeparableConv2D)
class SKSSeparableConv2D(_SparseKernels, lq.layers.QuantSeparableConv2D):
    """Convolves depthwise, then pointwise, with binary kernels of n codewords: `lq.layers.QuantSeparableConv2D`.

    Each of the two kernels has a selection of its own.

    Example:
        ```python
        sks.layers.SKSSeparableConv2D(
            64, 3, depthwise_num_codewords=16, pointwise_num_codewords=32, input_quantizer="ste_sign"
        )
        ```

    Arguments:
        *args: As for `lq.layers.QuantSeparableConv2D`, in its order.
        depthwise_num_codewords: Number of sign patterns of the depthwise kernel, 1 to 2^K.
        pointwise_num_codewords: Number of sign patterns of the pointwise kernel, 1 to 2^K.
        selection: Who chooses them, in both kernels: as for `SKSConv2D`.
        depthwise_codeword_shape: As `codeword_shape` for `SKSDepthwiseConv2D`.
        pointwise_codeword_shape: As `codeword_shape` for `SKSConv2D`.
        clip_value: As for `SKSConv2D`.
        **kwargs: As for `lq.layers.QuantSeparableConv2D`, but for `depthwise_quantizer` and
            `pointwise_quantizer`. The default of both constraints is `"weight_clip"`.

    Raises:
        ValueError: If an argument is out of range or (when built) does not fit the kernel.
    """

    _roles = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}

    def __init__(
        self,
        *args,
        depthwise_num_codewords: int = 32,
        pointwise_num_codewords: int = 32,
        selection="permutation",
        depthwise_codeword_shape=None,
        pointwise_codeword_shape=None,
        clip_value: float | None = 1.0,
        **kwargs,
    ):
        for name in ("num_codewords", "codeword_shape"):
            if name in kwargs:
                raise ValueError(
                    f"`{name}` is not an argument of `{type(self).__name__}`, which has two kernels. "
                    f"Received: {name}={kwargs[name]!r}. Give `depthwise_{name}` and `pointwise_{name}`."
                )
        quantizers = {
            "depthwise": SparseKernelSign(
                depthwise_num_codewords, selection, depthwise_codeword_shape, clip_value
            ),
            "pointwise": SparseKernelSign(
                pointwise_num_codewords, selection, pointwise_codeword_shape, clip_value
            ),
        }
        super().__init__(*args, **self._quantizer_arguments(kwargs, quantizers))

    def get_config(self):
        config = super().get_config()
        for role in self._roles:
            options = getattr(self, f"{role}_quantizer").get_config()
            config[f"{role}_num_codewords"] = options["num_codewords"]
            config[f"{role}_codeword_shape"] = options["codeword_shape"]
            config["selection"], config["clip_value"] = options["selection"], options["clip_value"]
        return config


class SparseKernel(NamedTuple):
    """A kernel of a model that a `SparseKernelSign` quantises."""

    name: str
    """Name of the layer, with the kernel's role where the layer has two, and numbered (`name#2`) where
    layers of nested models share one."""
    layer: tf.keras.layers.Layer
    weight: str
    """Name of the layer's attribute that holds the kernel."""
    quantizer: SparseKernelSign

    def latent(self) -> np.ndarray:
        """Returns the latent weights, float32 of the kernel's shape."""
        return np.asarray(getattr(self.layer, self.weight).numpy(), np.float32)

    def assigned(self) -> np.ndarray:
        """Returns the codeword of each block in inference, int32 `(number of blocks,)`."""
        signs = self.quantizer.signs(tf.constant(self.latent()), training=False)
        return codebook.to_codewords(
            tf.transpose(codebook.to_blocks(signs, self.quantizer.block_shape))
        )


ROLES = {"kernel": "kernel", "depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}
"""Larq's prefix of a kernel's quantizer, and the layer's attribute that holds the kernel."""


def kernel_name(layer: tf.keras.layers.Layer, role: str, names: Counter[str]) -> str:
    """Names a kernel as `SparseKernel.name` says; `names` counts those of a model so far."""
    name = f"{layer.name}/{role}" if hasattr(layer, "pointwise_kernel") else layer.name
    names[name] += 1
    # Two nested models may hold layers of one name.
    return f"{name}#{names[name]}" if names[name] > 1 else name


def sparse_kernels(model: tf.keras.layers.Layer) -> list[SparseKernel]:
    """Lists the kernels of a model, or of one layer, that a `SparseKernelSign` quantises.

    Larq's own layers with such a quantizer count as well as the layers of this module; layers inside
    other layers and models are found.

    Example:
        ```python
        [kernel.name for kernel in sks.layers.sparse_kernels(model)]
        ```

    Arguments:
        model: A built Keras model or layer.

    Returns:
        The kernels in the order in which the model holds its layers, without repetition.

    Raises:
        ValueError: If two layers share a quantizer.
    """
    found: list[SparseKernel] = []
    names: Counter[str] = Counter()
    # Keras' own list: `submodules` would put a network's last layer before those in between.
    for layer in model._flatten_layers():
        for role, weight in ROLES.items():
            quantizer = getattr(layer, f"{role}_quantizer", None)
            if isinstance(quantizer, SparseKernelSign) and hasattr(layer, weight):
                for other in found:
                    if other.quantizer is quantizer:
                        raise ValueError(
                            "A `SparseKernelSign` quantises one kernel, and the model could not be loaded "
                            f"again. Received: layers '{other.layer.name}' and '{layer.name}' with one "
                            "quantizer between them. Give each layer its own."
                        )
                name = kernel_name(layer, role, names)
                found.append(SparseKernel(name, layer, weight, quantizer))
    return found
