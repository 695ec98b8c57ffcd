"""A Keras model as plain JSON without modules or code, and the model made again from it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from larq_sks.layers import ROLES, sparse_kernels
from larq_sks.quantizers import SparseKernelSign
from larq_sks.storage import allowed, checking

_FIXED = {"class_name": "larq_sks>Fixed", "config": {"seed": 0}}
# Objects that are no layers of their own get new names from Keras in each process.
_NAMELESS = ("quantizer", "selection", "activation")
_PACKAGES = ("keras", "tf_keras", "larq", "larq_sks")
_UNCOUNTED = 16


def require_model(model) -> None:
    """Refuses anything but a built functional or sequential model."""
    kinds: Any = tuple(allowed.classes()["model"].values())
    name = getattr(model, "name", model)
    if not isinstance(model, kinds):
        raise ValueError(
            "`model` must be a functional or sequential model: any other is known to its own code only. "
            f"Received: {name!r} of class {type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`model` must have weights. Received: model '{name}', which is not built. Call it on data or "
            "give it an input shape first."
        )


def describe(
    model: tf.keras.Model, latent: bool, custom_objects: Mapping[str, object] | None = None
) -> dict:
    """Describes a model in JSON.

    Example:
        ```python
        describe(model, latent=False)  # {"class_name": "Functional", "config": {...}}
        ```

    Arguments:
        model: A model that `require_model` lets through.
        latent: Whether selections are kept. If not, each becomes a `Fixed` one of the codewords in use.
        custom_objects: Classes and functions by name that are allowed besides the known ones.

    Returns:
        `class_name` and `config` of the model and of each object in it; layers of functional models have
            `inbound_nodes` besides.

    Raises:
        ValueError: If the model cannot be made again from such a description, or holds a class or function
            that is not allowed.
    """
    try:
        # Keras' own JSON, for its way with tuples, numbers of NumPy and functions.
        with warnings.catch_warnings():
            # Keras warns of initializers that are functions, which a file has no use for.
            warnings.simplefilter("ignore")
            description = json.loads(model.to_json())
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            "Each layer of the model must have a `get_config` that JSON can hold. "
            f"Received: '{model.name}', with the error: {error}"
        ) from error
    plain = _plain(description, "", allowed.objects(custom_objects), custom_objects or {})
    _name_models(model, plain)
    _refuse_sharing(model, plain)
    if not latent:
        _fix_selections(model, plain)
    checking.check(plain, custom_objects)
    return plain


def _plain(value, key: str, known: Mapping[str, object], custom: Mapping[str, object]):
    """Keeps class names and options of objects, and none of what Keras adds for its own loading."""
    if isinstance(value, list):
        return [_plain(item, key, known, custom) for item in value]
    if not isinstance(value, dict):
        return value
    role = key.rsplit("_", 1)[-1]
    if "class_name" not in value or "config" not in value:
        return {name: _plain(item, name, known, custom) for name, item in value.items()}
    name, module = value["class_name"], value.get("module") or ""
    if ">" in (value.get("registered_name") or ""):
        name = value["registered_name"]
    if role == "dtype" and name == "Policy":
        return value["config"]["name"]
    function = name == "function"
    if function:
        name = value["config"]
        if role == "activation":
            return name
    if role == "initializer" and name not in known:
        return None  # `load` sets all weights, so that an unknown beginning does no harm
    if function:
        return {"class_name": "function", "config": name}
    if module and module.split(".")[0] not in _PACKAGES and name not in custom:
        name = f"{module}.{name}"  # not to be taken for Keras' class of that name
    config = _plain(value["config"], key, known, custom)
    if role in _NAMELESS:
        config.pop("name", None)
    plain = {"class_name": name, "config": config}
    if "inbound_nodes" in value:
        plain["inbound_nodes"] = _plain(value["inbound_nodes"], "", known, custom)
    return plain


def _models(model, description: dict) -> Iterator[tuple]:
    """Pairs the layers of a model, itself and those of nested models included, with descriptions."""
    yield model, description
    if "layers" in description["config"]:
        layers = {layer.name: layer for layer in model.layers}
        for entry in description["config"]["layers"]:
            # `Sequential.layers` leaves its input layer out.
            if entry["config"].get("name") in layers:
                yield from _models(layers[entry["config"]["name"]], entry)


def _name_models(model, description: dict) -> None:
    """Calls models of a class of their own functional, if that is all they are."""
    functional: Any = allowed.classes()["model"]["Functional"]
    for layer, entry in _models(model, description):
        cls: Any = type(layer)
        plain = isinstance(layer, functional) and not isinstance(layer, tf.keras.Sequential)
        if plain and cls.call is functional.call and cls.get_config is functional.get_config:
            entry["class_name"] = "Functional"


def _refuse_sharing(model, description: dict) -> None:
    owners: dict[int, str] = {}
    for layer, _ in _models(model, description):
        if id(layer) in owners:
            raise ValueError(
                "A layer must belong to one model only: in Keras' JSON it would become two layers. "
                f"Received: layer '{layer.name}' in two of the models that '{model.name}' is made of."
            )
        owners[id(layer)] = layer.name


def _fix_selections(model, description: dict) -> None:
    fixed = set()
    for layer, entry in _models(model, description):
        config = entry["config"]
        for role in ROLES:
            quantizer = getattr(layer, f"{role}_quantizer", None)
            if not isinstance(quantizer, SparseKernelSign):
                continue
            options, prefix = config, ""
            if config.get(f"{role}_quantizer"):  # one of Larq's layers
                options = config[f"{role}_quantizer"]["config"]
            elif f"{role}_num_codewords" in config:
                prefix = f"{role}_"
            options["selection"] = _FIXED
            # In its first phase a selection uses all codewords.
            options[f"{prefix}num_codewords"] = len(quantizer.selected())
            fixed.add(id(quantizer))
    for kernel in sparse_kernels(model):
        if id(kernel.quantizer) not in fixed:
            raise ValueError(
                "A layer with a `SparseKernelSign` must belong to a model for its selection to be fixed. "
                f"Received: layer '{kernel.layer.name}' inside of another layer. Save with `latent=True`."
            )


def build(
    description: dict, elements: int, custom_objects: Mapping[str, object] | None = None
) -> tf.keras.Model:
    """Makes the model that `describe` described, with weights of 0.

    Arguments:
        description: As `describe` returns it.
        elements: How many elements its weights have in all. More are refused before memory is taken.
        custom_objects: As for `describe`.

    Returns:
        The model.

    Raises:
        ValueError: If the description is not allowed, or has another number of elements. Keras raises
            errors of many other kinds on what makes no sense.
    """
    checking.check(description, custom_objects)
    left: float = elements

    def create(next_creator, **options):
        nonlocal left
        shape, start = options.get("shape"), options["initial_value"]
        shape = tf.TensorShape(shape if callable(start) else tf.convert_to_tensor(start).shape)
        count = shape.num_elements()
        # Keras has counters of its own in each model, which are no weights.
        if count is None or count > _UNCOUNTED:
            left -= count or math.inf
            if left < 0:
                raise ValueError(
                    f"The layers must have weights of {elements} elements in all. "
                    f"Received: one of shape {shape} where fewer are left."
                )
        if callable(start):
            options["initial_value"] = lambda: tf.zeros(shape, options.get("dtype") or tf.float32)
        return next_creator(**options)

    known = allowed.objects(custom_objects)
    make = tf.keras.layers.deserialize
    if not has_foreign_code(description, custom_objects):
        # No known layer needs AutoGraph, which takes half of the time of the first load. Around op layers
        # this switch would change TensorFlow's own functions for good.
        make = tf.autograph.experimental.do_not_convert(make)
    with tf.keras.utils.custom_object_scope(known), tf.variable_creator_scope(create):
        return make(_revive(description), custom_objects=known)


def has_foreign_code(description: dict, custom_objects: Mapping[str, object] | None) -> bool:
    """Tells whether a description has op layers or classes of the caller."""
    text = json.dumps(description)
    return bool(custom_objects) or any(f'"{name}"' in text for name in allowed.classes()["op"])


def _revive(value):
    """Puts the description into the form that Keras reads."""
    if isinstance(value, list):
        return [_revive(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__tuple__":
        return tuple(_revive(value["items"]))
    if value.get("class_name") == "__ellipsis__":
        return Ellipsis
    revived = {key: _revive(item) for key, item in value.items()}
    if value.get("class_name") == "function":
        # Found among the known objects, before any module is looked at.
        return {**revived, "module": "builtins", "registered_name": "function"}
    if "inbound_nodes" in value:
        revived["name"] = revived["config"]["name"]
    return revived
