"""Which classes and functions the architecture in a file may name, and how much it may ask for.

Keras makes whatever object a configuration names, and calls TensorFlow functions by name. So nothing of
a file reaches Keras that is not listed here or given by the caller. The lists hold what binary networks
use, and leave out all that runs code from the file (`Lambda`), reads or writes files, or takes memory that
no weight accounts for (`UpSampling1D` makes a list with an element for each step of its output).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping

import larq as lq
import tensorflow as tf

from larq_sks import layers, quantizers, selections


def _words(text: str) -> list[str]:
    return text.split()


_LAYERS = _words(
    """
    Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D
    AveragePooling3D BatchNormalization Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU
    Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    InputLayer LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum Multiply
    Normalization PReLU Permute ReLU RepeatVector Rescaling Reshape SeparableConv1D SeparableConv2D Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D Subtract ThresholdedReLU UnitNormalization
    UpSampling2D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """
)
_LARQ_LAYERS = _words(
    """
    QuantConv1D QuantConv2D QuantConv2DTranspose QuantConv3D QuantConv3DTranspose QuantDense
    QuantDepthwiseConv2D QuantSeparableConv1D QuantSeparableConv2D
    """
)
_SKS_LAYERS = _words(
    """
    SKSConv2D SKSConv2DTranspose SKSDense SKSDepthwiseConv2D SKSSeparableConv2D
    """
)
_INITIALIZERS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
    """
)
_REGULARIZERS = _words("L1 L1L2 L2 OrthogonalRegularizer")
_CONSTRAINTS = _words("MaxNorm MinMaxNorm NonNeg UnitNorm")
_LARQ_CONSTRAINTS = _words("WeightClip weight_clip")
_QUANTIZERS = _words(
    """
    ApproxSign DoReFa MagnitudeAwareSign NoOp SteHeaviside SteSign SteTern SwishSign
    """
)
ACTIVATIONS = frozenset(
    _words(
        """
    elu exponential gelu hard_sigmoid linear mish relu relu6 selu sigmoid silu softmax softplus softsign
    swish tanh
    """
    )
)
FUNCTIONS = frozenset(
    _words(
        """
    __operators__.add __operators__.getitem cast clip_by_value compat.v1.pad compat.v1.squeeze
    compat.v1.transpose concat expand_dims identity math.abs math.add math.add_n math.erf math.exp
    math.floor math.log math.maximum math.minimum math.multiply math.negative math.pow math.reduce_max
    math.reduce_mean math.reduce_min math.reduce_sum math.round math.rsqrt math.sigmoid math.sign
    math.softplus math.sqrt math.square math.subtract math.tanh math.truediv nn.avg_pool2d nn.bias_add
    nn.depth_to_space nn.elu nn.gelu nn.leaky_relu nn.log_softmax nn.max_pool2d nn.relu nn.relu6 nn.selu
    nn.silu nn.softmax nn.space_to_depth reshape stack stop_gradient
    """
    )
)
DTYPES = frozenset(
    _words(
        """
    bfloat16 bool float16 float32 float64 int16 int32 int64 int8 mixed_bfloat16 mixed_float16 uint8
    """
    )
)


@functools.lru_cache(maxsize=1)
def classes() -> dict[str, dict[str, type]]:
    """Lists the classes that a file may name, by what they are for and by their names in a file."""
    # Keras has no public names for three of its classes. Its package is `keras` or `tf_keras`.
    root = tf.keras.layers.Layer.__module__.split(".")[0]
    ops = importlib.import_module(f"{root}.src.layers.core.tf_op_layer")
    functional = importlib.import_module(f"{root}.src.engine.functional").Functional
    sks_layers = {f"larq_sks>{name}": getattr(layers, name) for name in _SKS_LAYERS}
    sign = {"larq_sks>SparseKernelSign": quantizers.SparseKernelSign}
    return {
        "model": {"Functional": functional, "Sequential": tf.keras.Sequential},
        "op": {name: getattr(ops, name) for name in ("TFOpLambda", "SlicingOpLambda")},
        "layer": _named(tf.keras.layers, _LAYERS) | _named(lq.layers, _LARQ_LAYERS) | sks_layers,
        "initializer": _named(tf.keras.initializers, _INITIALIZERS),
        "regularizer": _named(tf.keras.regularizers, _REGULARIZERS),
        "constraint": _named(tf.keras.constraints, _CONSTRAINTS)
        | _named(lq.constraints, _LARQ_CONSTRAINTS),
        "quantizer": _named(lq.quantizers, _QUANTIZERS) | sign,
        "selection": {
            "larq_sks>Fixed": selections.Fixed,
            "larq_sks>Permutation": selections.Permutation,
        },
    }


def _named(module, names: list[str]) -> dict[str, type]:
    return {name: getattr(module, name) for name in names}


def objects(custom_objects: Mapping[str, object] | None = None) -> dict[str, object]:
    """Lists all objects that a file may name, those of the caller included.

    Arguments:
        custom_objects: Classes and functions by name.

    Returns:
        The objects by each name that Keras may give them in a configuration.
    """
    found: dict[str, object] = {}
    for members in classes().values():
        found |= members
    for name, value in (custom_objects or {}).items():
        found[name] = value
        if isinstance(value, type):
            found[tf.keras.utils.get_registered_name(value)] = value
    return found
