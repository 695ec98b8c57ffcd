"""A copy of a Keras model in which some layers are replaced, with the weights of the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator

import larq as lq
import tensorflow as tf

from larq_sks.layers import ROLES

QUANTIZERS = {weight: f"{role}_quantizer" for role, weight in ROLES.items()}
"""The weights of a layer that Larq quantises, and the layer's attributes that hold the quantizers."""


def check_model(model: tf.keras.Model) -> None:
    """Raises a ValueError unless a model is made of layers and has weights."""
    if not _is_network(model):
        raise ValueError(
            "`model` must be a functional or sequential Keras model; the layers of others cannot be "
            f"exchanged. Received: {model!r}. Build the network with `tf.keras.Model(inputs, outputs)`."
        )
    if not model.built:
        raise ValueError(
            f"`model` must have weights. Received: model '{model.name}', which is not built. Call it on "
            "data or give it an input shape first."
        )


def layers_of(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
    """Yields the layers of a model and of the models nested in it, but none that is inside a layer."""
    # Keras' own lists: `layers` leaves out input layers.
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if _is_network(layer):
            yield from layers_of(layer)
        else:
            yield layer


def remake(
    layer: tf.keras.layers.Layer,
    changes: dict,
    cls: type[tf.keras.layers.Layer] | None = None,
    without: Collection[str] = (),
) -> tf.keras.layers.Layer:
    """Makes a layer anew from its config, without its weights.

    Arguments:
        layer: The layer, which is left alone.
        changes: What its config shall say instead.
        cls: Class of the new layer; `None` for that of the old.
        without: What of its config that class does not know.

    Returns:
        A layer of the same name that is not built.

    Raises:
        ValueError: If the layer cannot be made from its config.
    """
    cls = cls or type(layer)
    try:
        with warnings.catch_warnings():
            # Keras warns of initializers that are functions. If they are lost, the next line fails.
            warnings.simplefilter("ignore")
            config = layer.get_config()
        config = {key: value for key, value in config.items() if key not in without}
        return cls.from_config({**config, **changes})
    except Exception as error:  # whatever a user's class raises
        raise ValueError(
            f"Layer '{layer.name}' of class `{type(layer).__name__}` cannot be made anew from its config"
            f"{' with another ' + ' and '.join(changes) if changes else ''}. Received: {error!r}. "
            "Give the class a `get_config` that fits its constructor, and register what it uses with "
            "`tf.keras.utils.register_keras_serializable`."
        ) from error


def clone(
    model: tf.keras.Model,
    replace: Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer | None],
) -> tuple[tf.keras.Model, dict[tf.keras.layers.Layer, tf.keras.layers.Layer]]:
    """Copies a model with its weights, and lets a function replace layers.

    Layers that are called several times and models within models stay so. A layer that is replaced
    hands on its weights but for those of the kernel quantizers that are no longer of the same class.

    Example:
        ```python
        copy, copies = clone(model, lambda layer: None)
        ```

    Arguments:
        model: A functional or sequential model with weights.
        replace: Takes a layer that is no model and returns its replacement, not yet called, or `None`
            for a copy.

    Returns:
        The copy, which is not compiled, and the copy of each layer, those of nested models included.

    Raises:
        ValueError: If the model or one of its layers cannot be made anew.
    """
    check_model(model)
    copies: dict[tf.keras.layers.Layer, tf.keras.layers.Layer] = {}

    def copied(layer):
        # One copy, even if several nested models hold the layer.
        if layer not in copies:
            if _is_network(layer):
                copies[layer] = copied_model(layer)
            else:
                new = replace(layer)
                copies[layer] = _copied_layer(layer) if new is None else new
        return copies[layer]

    def copied_model(source):
        copy = tf.keras.models.clone_model(source, clone_function=copied)
        if type(copy).call is not type(source).call:
            raise ValueError(
                f"Model '{source.name}' cannot be copied layer by layer, because its class "
                f"`{type(source).__name__}` computes something else than its layers do. "
                "Build the network with `tf.keras.Model(inputs, outputs)`."
            )
        return copy

    copy = copied_model(model)
    if not copy.built:  # a sequential model that learned its input shape from data
        copy.build(model.input_shape)
    copy.trainable = model.trainable
    for layer in model._flatten_layers(include_self=False):  # a model before its layers
        if layer not in copies:  # an input, or inside another layer
            continue
        if _is_network(layer):
            copies[layer].trainable = layer.trainable
        else:
            _hand_on(layer, copies[layer])
    return copy, copies


def _is_network(layer) -> bool:
    return isinstance(layer, tf.keras.Sequential) or (
        isinstance(layer, tf.keras.Model) and layer._is_graph_network
    )


def _copied_layer(layer):
    if type(layer) is not tf.keras.layers.Lambda:
        return remake(layer, {})
    # With its very function: its config holds byte code, which Keras does not run unasked.
    base = tf.keras.layers.Layer.get_config(layer)
    return tf.keras.layers.Lambda(
        layer.function, layer._output_shape, layer.mask, layer.arguments, **base
    )


def _hand_on(layer, new) -> None:
    """Gives a copy its weights, and the layers inside it what they are told of being trained."""
    given_up: set[int] = set()
    for name in QUANTIZERS.values():
        quantizers = [getattr(each, name, None) for each in (layer, new)]
        if type(quantizers[0]) is not type(quantizers[1]):
            for quantizer in quantizers:
                if isinstance(quantizer, tf.keras.layers.Layer):
                    given_up.update(map(id, [*quantizer._flatten_layers(), *quantizer.weights]))

    def kept(things):
        return [thing for thing in things if id(thing) not in given_up]

    # First, because the order of a layer's weights depends on it. A layer comes before those inside it.
    parts = (kept(each._flatten_layers()) for each in (layer, new))
    for source, target in zip(*parts, strict=True):
        target.trainable = source.trainable
    with lq.context.quantized_scope(False):  # latent weights, whatever scope the caller is in
        for source, target in zip(kept(layer.weights), kept(new.weights), strict=True):
            target.assign(source)
    if isinstance(new, tf.keras.layers.Normalization):
        new.finalize_state()  # it computes with copies of its weights
