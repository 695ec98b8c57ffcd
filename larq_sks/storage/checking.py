"""Refuses architectures that name anything not allowed, that do not end, or that ask for too much."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping

import tensorflow as tf

from larq_sks import codebook
from larq_sks.storage import allowed

MAX_CALLS = 2_000
"""The most inputs of layers in a network, those inside of nested models counted at each call."""

_MAX_VALUES = 1_000_000
_MAX_DEPTH = 100
_MAX_PASSES = 1_000_000
_PATTERNS_PER_CALL = 2**14
_MAX_LIST = 1024
# Options that may be longer: one number for each codeword, or for each feature.
_LONG = {"indices", "start", "mean", "variance", "scale", "offset"}
_ROLES = ("initializer", "regularizer", "constraint", "quantizer", "selection")


def check(model: dict, custom_objects: Mapping[str, object] | None = None) -> None:
    """Refuses an architecture that names anything not allowed, or asks for too much.

    Example:
        ```python
        check({"class_name": "Sequential", "config": {"name": "net", "layers": [...]}})
        ```

    Arguments:
        model: A Keras architecture as in a file: of each object `class_name` and `config`.
        custom_objects: Classes and functions by name that are allowed besides: layers, quantizers and so
            on, activations, and TensorFlow functions as the architecture names them (`"math.erf"`).

    Raises:
        ValueError: If so; the message says what and in which layer.
    """
    _Check(custom_objects or {}).model(model)


class _Check:
    """Walks through an architecture, counting what it asks for."""

    def __init__(self, custom_objects: Mapping[str, object]):
        self.custom = allowed.objects(custom_objects).keys() - allowed.objects().keys()
        self.functions = allowed.FUNCTIONS | custom_objects.keys()
        self.activations = allowed.ACTIVATIONS | custom_objects.keys()
        self.registered = tf.keras.utils.get_custom_objects()
        self.values = 0
        self.where = "the model"

    def model(self, model: dict) -> None:
        if not isinstance(model, dict) or model.get("class_name") not in allowed.classes()["model"]:
            self._refuse(f"class {_short(model)}", "A model is a functional or sequential one.")
        if self._network(model) > MAX_CALLS:
            self._refuse("more", f"Layers may take {MAX_CALLS} inputs in all.")

    def _refuse(self, what: str, allowed: str):
        raise ValueError(f"{allowed} Received: {what} in {self.where}.")

    def _network(self, network: dict) -> int:
        """Checks a model and returns how many calls of layers it takes to make it."""
        config = network["config"]
        functional = network["class_name"] == "Functional"
        wanted = {"name", "layers"} | ({"input_layers", "output_layers"} if functional else set())
        if not isinstance(config, dict) or not wanted <= config.keys():
            self._refuse(_short(config), f"A model has {', '.join(sorted(wanted))}.")
        for key in config.keys() - {"layers"}:
            self._value(config[key], 0)
        if not isinstance(config["layers"], list) or not config["layers"]:
            self._refuse(_short(config["layers"]), "A model has a list of layers.")
        where, calls, names = self.where, 0, set()
        for entry in config["layers"]:
            calls += self._layer(entry, {"inbound_nodes"} if functional else set())
            names.add(entry["config"].get("name"))
            self.where = where
        if len(names) < len(config["layers"]):
            self._refuse("two of one name", "Each layer has a name of its own.")
        if functional:
            self._graph(config)
        return calls

    def _layer(self, entry: dict, more: set[str]) -> int:
        if not isinstance(entry, dict) or entry.keys() != {"class_name", "config"} | more:
            self._refuse(_short(entry), "A layer has a class, options and inputs.")
        name, config = entry["class_name"], entry["config"]
        if not isinstance(name, str) or not isinstance(config, dict):
            self._refuse(_short(entry), "A layer has a class, options and inputs.")
        if not isinstance(config.get("name"), str):
            self._refuse(f"the name {_short(config.get('name'))}", "A layer has a name.")
        self.where = f"layer '{config['name'][:100]}'"
        nodes = entry.get("inbound_nodes", [])
        if not isinstance(nodes, list):
            self._refuse(_short(nodes), "The inputs of a layer are lists.")
        self._value(nodes, 0)
        known = allowed.classes()
        if name in known["model"]:
            return self._network(entry) * (1 + len(nodes)) + self._inputs(nodes)
        if name == "Lambda":
            self._refuse(
                "a Lambda layer",
                "A .sks file holds no code, so it cannot hold a Lambda layer: write a layer class in its "
                "place, and name it in `custom_objects`.",
            )
        if name in known["op"]:
            function = config.get("function")
            if not isinstance(function, str) or function not in self.functions:
                self._refuse(
                    f"function {_short(function)}",
                    "A TensorFlow function must be a known one, or be named in `custom_objects`.",
                )
        elif name not in known["layer"] and name not in self.custom:
            self._refuse(
                f"class {_short(name)}",
                "A layer must be of a known class, or be named in `custom_objects` when saving and loading.",
            )
        self._options(config, name, 0)
        return (1 + self._patterns(config) // _PATTERNS_PER_CALL) * max(1, self._inputs(nodes))

    def _inputs(self, nodes: list) -> int:
        return sum(len(self._references(node)) for node in nodes)

    def _options(self, config: dict, owner: str, depth: int) -> None:
        """Checks the configuration of a layer or of another object."""
        for key, value in config.items():
            role = key.rsplit("_", 1)[-1]
            if key == "dtype":
                if value is not None and (
                    not isinstance(value, str) or value not in allowed.DTYPES
                ):
                    self._refuse(
                        f"dtype {_short(value)}", "A dtype must be the name of a known one."
                    )
            elif key == "activation" and isinstance(value, str):
                if value not in self.activations:
                    self._refuse(
                        f"activation {_short(value)}",
                        "An activation must be a known one, or be named in `custom_objects`.",
                    )
            elif key == "activation" and value is not None:
                self._object(value, "quantizer", depth + 1, "activation")
            elif role in _ROLES and value is not None:
                self._object(value, role, depth + 1)
            elif key != "function" or owner not in allowed.classes()["op"]:
                if len(_items(value)) > _MAX_LIST and key not in _LONG and owner not in self.custom:
                    self._refuse(
                        f"{len(_items(value))} in '{key}'", f"An option lists at most {_MAX_LIST}."
                    )
                self._value(value, depth + 1, owner in self.custom)

    def _object(self, value, role: str, depth: int, what: str | None = None) -> None:
        what = what or role
        if not isinstance(value, dict) or value.keys() != {"class_name", "config"}:
            self._refuse(_short(value), f"The {what} of a layer has a class and options.")
        name, config = value["class_name"], value["config"]
        if name == "function":
            name, config = config, {}
        known = self.custom if role == "any" else allowed.classes()[role].keys() | self.custom
        if role == "any":
            known = known | allowed.objects().keys() - allowed.classes()["op"].keys()
        if not isinstance(name, str) or name not in known or not isinstance(config, dict):
            self._refuse(
                f"{_short(name)}",
                f"The {what} of a layer must be of a known class, or be named in `custom_objects` when saving and "
                "loading.",
            )
        self._count(depth)
        self._options(config, name, depth)

    def _value(self, value, depth: int, custom: bool = False) -> None:
        """Checks an option that is no object, unless a custom class holds it."""
        self._count(depth)
        if isinstance(value, (list, dict)):
            if isinstance(value, dict) and "class_name" in value:
                value = self._special(value, depth, custom)
            elif isinstance(value, dict) and value.keys() & {"module", "registered_name"}:
                self._refuse(_short(value), "An option holds no class.")
            for item in value.values() if isinstance(value, dict) else value:
                self._value(item, depth + 1, custom)
        elif isinstance(value, str):
            # Keras puts a registered function in the place of its name, wherever it stands.
            function = self.registered.get(value)
            if inspect.isfunction(function) and value not in self.custom:
                self._refuse(
                    f"'{value}'", "The name of a registered function must be in `custom_objects`."
                )
        elif isinstance(value, float):
            if not math.isfinite(value):
                self._refuse(str(value), "A number must be finite.")
        elif value is not None and not isinstance(value, bool) and abs(value) >= 2**32:
            self._refuse(str(value), "An integer must be below 2^32.")

    def _special(self, value: dict, depth: int, custom: bool) -> list:
        """Checks a tuple or an ellipsis in JSON, and returns the items."""
        if value == {"class_name": "__ellipsis__"}:
            return []
        if value.keys() == {"class_name", "items"} and value["class_name"] == "__tuple__":
            if isinstance(value["items"], list):
                return value["items"]
        elif custom:
            self._object(value, "any", depth)
            return []
        self._refuse(_short(value), "An option holds no object.")
        return []

    def _count(self, depth: int) -> None:
        self.values += 1
        if self.values > _MAX_VALUES or depth > _MAX_DEPTH:
            self._refuse("more", f"At most {_MAX_VALUES} values, {_MAX_DEPTH} deep, are read.")

    def _patterns(self, config: dict) -> int:
        """Counts the signs in all patterns of the largest block: memory that no weight accounts for."""
        most = 0
        for key, value in config.items():
            if key.endswith("codeword_shape"):
                sizes = [size for size in _items(value) if isinstance(size, int) and size > 0]
                size = min(codebook.MAX_BLOCK_SIZE, math.prod(sizes[:8]))
                most = max(most, size * 2**size)
            elif isinstance(value, dict):
                most = max(most, self._patterns(value))
        return most

    def _graph(self, config: dict) -> None:
        """Plays through how Keras connects the layers, which would not end on a circle."""
        base: dict[str, int] = {}
        outputs: dict[str, float] = {}
        waiting: dict[str, list] = {}
        inputs = set()
        for entry in config["layers"]:
            name, kind = entry["config"]["name"], entry["class_name"]
            # Keras counts the calls of a model from 1: call 0 is the one that made it.
            base[name] = int(kind in allowed.classes()["model"])
            outputs[name] = math.inf if kind in self.custom else 1
            waiting[name] = list(map(self._references, entry["inbound_nodes"]))
            if kind == "InputLayer":
                inputs.add(name)
                waiting[name].clear()
            elif kind == "Functional":
                outputs[name] = len(self._references(entry["config"]["output_layers"]))
            elif kind == "Sequential" and self._first(entry) != "InputLayer":
                self._refuse(
                    f"'{name}' without", "A sequential model in another has an input layer."
                )
        done = dict(base)

        def ready(reference):
            source, call, output = reference
            if source not in base or not 0 <= output < outputs[source]:
                self._refuse(f"{reference}", "A layer takes an output of another.")
            return source in inputs or base[source] <= call < done[source]

        passes, left = 0, True
        while left:
            left, moved = False, False
            for name, nodes in waiting.items():
                passes += 1
                while nodes and all(map(ready, nodes[0])):
                    nodes.pop(0)
                    done[name] += 1
                    moved = True
                left = left or bool(nodes)
            if (left and not moved) or passes > _MAX_PASSES:
                self._refuse("others", "Layers must be connected without a circle.")
        for ends, wanted in (("input_layers", inputs), ("output_layers", base)):
            for reference in self._references(config[ends]):
                if reference[0] not in wanted or not ready(reference):
                    self._refuse(f"{reference}", f"The {ends} are layers of the model.")

    @staticmethod
    def _first(sequential: dict) -> str:
        return sequential["config"]["layers"][0]["class_name"]

    def _references(self, node) -> list[tuple[str, int, int]]:
        """Finds the outputs that a call of a layer takes: layer, number of its call, of its output."""
        found: list[tuple[str, int, int]] = []

        def search(value):
            if isinstance(value, dict):
                # A tuple is no reference, but may hold some.
                for item in value.get("items", value.values()):
                    search(item)
                return
            if not isinstance(value, list):
                return
            if len(value) in (3, 4) and isinstance(value[0], str):
                name, call, output = value[:3]
                if name != "_CONSTANT_VALUE":
                    if type(call) is not int or type(output) is not int:
                        self._refuse(_short(value), "A layer takes an output of another.")
                    found.append((name, call, output))
                value = value[3:]
            for item in value:
                search(item)

        search(node)
        if not found:
            # With constants alone a function would run at once, and take what memory it likes.
            self._refuse(_short(node), "A layer takes the output of another.")
        return found


def _items(value) -> list:
    """Returns the items of a list or of a tuple as JSON has it, none of anything else."""
    if isinstance(value, dict):
        value = value.get("items")
    return value if isinstance(value, list) else []


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
