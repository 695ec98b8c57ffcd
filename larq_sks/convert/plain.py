"""From n codewords a kernel to plain Larq, which any machine with Larq can load."""

from __future__ import annotations

import larq as lq
import tensorflow as tf

from larq_sks import layers
from larq_sks.convert.clone import QUANTIZERS, check_model, clone, layers_of, remake

_TWINS = {
    layers.SKSConv2D: lq.layers.QuantConv2D,
    layers.SKSConv2DTranspose: lq.layers.QuantConv2DTranspose,
    layers.SKSDense: lq.layers.QuantDense,
    layers.SKSDepthwiseConv2D: lq.layers.QuantDepthwiseConv2D,
    layers.SKSSeparableConv2D: lq.layers.QuantSeparableConv2D,
}
# What the configs of these layers hold besides their twins'.
_OURS = {"selection", "clip_value"} | {
    f"{role}{option}"
    for role in ("", "depthwise_", "pointwise_")
    for option in ("num_codewords", "codeword_shape")
}


def to_larq(model: tf.keras.Model) -> tf.keras.Model:
    """Turns a network into one of plain Larq, which computes the same and knows nothing of larq_sks.

    Each kernel of codewords becomes a kernel of -1 and +1 under `ste_sign`. If it has a multiplier, it
    becomes a float kernel without a quantizer, because no quantizer of Larq's gives back any scale to
    the last bit. All else is copied.

    Example:
        ```python
        sks.to_larq(model).save("plain.keras")  # loads after `import larq`
        ```

    Arguments:
        model: A functional or sequential model with weights. It is left alone.

    Returns:
        A new model, not compiled, whose outputs equal those of `model` bit for bit.

    Raises:
        ValueError: If a layer with codewords is inside a wrapper or of a class derived from one of larq_sks;
            if a layer cannot be made anew from its config.
    """
    check_model(model)
    kernels = layers.sparse_kernels(model)
    replaceable = set(layers_of(model))
    for kernel in kernels:
        if kernel.layer not in replaceable:
            raise ValueError(
                f"Layer '{kernel.name}' cannot be replaced, because it is inside another layer, such as "
                "a wrapper. Use it without the other."
            )

    def replace(layer):
        own = [kernel for kernel in kernels if kernel.layer is layer]
        changes = {
            QUANTIZERS[kernel.weight]: None
            if kernel.quantizer.scale
            else lq.quantizers.SteSign(kernel.quantizer.clip_value, dtype=layer.dtype_policy)
            for kernel in own
        }
        if not own:
            return None
        cls = type(layer)
        if cls not in _TWINS and issubclass(cls, tuple(_TWINS)):
            raise ValueError(
                f"Layer '{layer.name}' has no twin in plain Larq, because its class is not one of "
                f"larq_sks but derives from it. Received: a layer of class `{cls.__name__}`. Use the "
                "class of larq_sks, or derive from Larq's with a `SparseKernelSign` as its quantizer."
            )
        return remake(layer, changes, _TWINS.get(cls), without=_OURS if cls in _TWINS else ())

    copy, copies = clone(model, replace)
    for kernel in kernels:
        # In the dtype in which the layer computes, so that half precision rounds as it does there.
        latent = tf.cast(kernel.latent(), kernel.layer.compute_dtype)
        quantised = tf.cast(kernel.quantizer(latent, training=False), tf.float32)
        getattr(copies[kernel.layer], kernel.weight).assign(quantised)
    return copy
