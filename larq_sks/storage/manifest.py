"""What a .sks file says about its network, as few bytes: compressed JSON without repetition."""

from __future__ import annotations

import json

import numpy as np

from larq_sks.storage.compression import compress, decompress

MAX_JSON = 2**22
"""The most bytes of JSON in a file."""

_MAX_OPTIONS = 2**20


def pack(manifest: dict) -> np.ndarray:
    """Writes a manifest as bytes.

    Example:
        ```python
        section = pack({"model": {"class_name": "Sequential", "config": {...}}})
        ```

    Arguments:
        manifest: What JSON can hold. `"model"` is a Keras architecture: `class_name` and `config` of
            each object, for layers of a functional model also `inbound_nodes`, and nothing else.

    Returns:
        A uint8 array.

    Raises:
        ValueError: If a number is not finite, or there are more than 4 MiB of JSON.
    """
    short = {**manifest, "model": _shorten(manifest["model"])}
    text = json.dumps(short, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(text) > MAX_JSON:
        raise ValueError(
            f"The architecture must fit into {MAX_JSON} bytes of JSON. Received: {len(text)} bytes."
        )
    return np.frombuffer(compress(text), np.uint8)


def unpack(section: np.ndarray) -> dict:
    """Reads what `pack` wrote, in bounded memory whatever the bytes.

    Raises:
        ValueError: If the bytes are no such manifest.
    """
    try:
        text = decompress(section.tobytes(), MAX_JSON)
    except ValueError as error:
        raise ValueError(f"The architecture cannot be read. {error}") from error
    manifest = json.loads(text, parse_constant=_refuse)
    return {**manifest, "model": _lengthen(manifest["model"], [0])}


def _refuse(constant: str):
    raise ValueError(f"JSON has no numbers but finite ones. Received: {constant}.")


def _shorten(network: dict) -> dict:
    """Leaves out what layers have in common.

    Of a layer's options those that the last one of its class has too, and of its inputs the layer before.
    """
    layers: list[dict] = []
    latest: dict[str, dict] = {}
    before = None
    for layer in network["config"]["layers"]:
        name, config = layer["class_name"], layer["config"]
        if "layers" in config:
            config = _shorten(layer)["config"]
        same = latest.get(name)
        if same is not None and list(same) == list(config):
            changed = {key: value for key, value in config.items() if not _equal(same[key], value)}
            entry = {"like": name, "config": changed}
        else:
            entry = {"class_name": name, "config": config}
        latest[name] = config
        if layer.get("inbound_nodes") != [[[before, 0, 0, {}]]] and "inbound_nodes" in layer:
            entry["inbound_nodes"] = layer["inbound_nodes"]
        before = config.get("name")
        layers.append(entry)
    return {**network, "config": {**network["config"], "layers": layers}}


def _equal(one, other) -> bool:
    # In Python 1, 1.0 and True are equal, in JSON they are not.
    return json.dumps(one) == json.dumps(other)


def _lengthen(network: dict, options: list[int]) -> dict:
    """Undoes `_shorten`; `options` counts what comes of it, as a few bytes may ask for very much."""
    functional = network["class_name"] != "Sequential"
    layers: list[dict] = []
    latest: dict[str, dict] = {}
    before = None
    for entry in network["config"]["layers"]:
        name = entry["like"] if "like" in entry else entry["class_name"]
        config = {**latest[name], **entry["config"]} if "like" in entry else entry["config"]
        latest[name] = config
        options[0] += len(config) + 1
        if options[0] > _MAX_OPTIONS:
            raise ValueError(f"The layers must have at most {_MAX_OPTIONS} options in all.")
        layer = {"class_name": name, "config": config}
        if "layers" in config:
            layer = _lengthen(layer, options)
        if functional:
            layer["inbound_nodes"] = entry.get("inbound_nodes", [[[before, 0, 0, {}]]])
        before = config.get("name")
        layers.append(layer)
    return {**network, "config": {**network["config"], "layers": layers}}
