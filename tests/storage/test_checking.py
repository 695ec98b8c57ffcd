import copy

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
from larq_sks.storage import architecture, checking

layers = tf.keras.layers


def network():
    image = layers.Input((4, 4, 8), name="image")
    x = sks.layers.SKSConv2D(8, 3, num_codewords=4, padding="same", name="sparse")(image)
    x = lq.layers.QuantConv2D(
        8,
        3,
        kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        padding="same",
        name="binary",
    )(x)
    x = layers.BatchNormalization(name="norm")(x + image)
    x = layers.Dense(3, activation="relu", kernel_regularizer="l2", name="dense")(x)
    return tf.keras.Model(image, x, name="net")


@pytest.fixture(scope="module")
def described():
    # So that Keras calls the addition `tf.__operators__.add`, the first of the process.
    tf.keras.backend.clear_session()
    return architecture.describe(network(), latent=True)


def layer_of(model, name):
    return next(entry for entry in model["config"]["layers"] if entry["config"]["name"] == name)


def test_the_network_itself_is_allowed(described):
    checking.check(described)


def change_config(layer, **options):
    return lambda model: layer_of(model, layer)["config"].update(options)


def change_entry(layer, **options):
    return lambda model: layer_of(model, layer).update(options)


def change_nodes(layer, nodes):
    return change_entry(layer, inbound_nodes=nodes)


def dense(**options):
    return {"class_name": "Dense", "config": {"units": 1, "name": "d", **options}}


LAMBDA = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}

HOSTILE = {
    # Classes and functions
    "class of a layer": (change_entry("dense", class_name="Embedding"), "Received: class 'Embedding' in layer 'dense'"),
    "code": (change_entry("dense", class_name="Lambda"), "holds no code"),
    "module": (change_entry("dense", module="os"), "A layer has a class"),
    "registered name": (change_entry("dense", registered_name="os>system"), "A layer has a class"),
    "shapes": (change_entry("dense", build_config={"input_shape": [1]}), "A layer has a class"),
    "initializer": (change_config("dense", kernel_initializer={"class_name": "system", "config": {}}), "'system'"),
    "initializer's module": (
        change_config("dense", kernel_initializer={"class_name": "Zeros", "config": {}, "module": "os"}),
        "The initializer of a layer has a class",
    ),
    "initializer as a name": (change_config("dense", kernel_initializer="zeros"), "class and options"),
    "layer for an initializer": (change_config("dense", bias_initializer=dense()), "'Dense'"),
    "regularizer": (change_config("dense", kernel_regularizer={"class_name": "L3", "config": {}}), "'L3'"),
    "constraint": (change_config("binary", kernel_constraint={"class_name": "get", "config": {}}), "'get'"),
    "quantizer": (change_config("binary", kernel_quantizer={"class_name": "deserialize", "config": {}}), "deserialize"),
    "quantizer as a name": (change_config("binary", kernel_quantizer="deserialize"), "class and options"),
    "selection": (change_config("sparse", selection={"class_name": "Dense", "config": {}}), "'Dense'"),
    "selection as a name": (change_config("sparse", selection="permutation"), "class and options"),
    "function object": (
        change_config("dense", kernel_initializer={"class_name": "function", "config": "system"}),
        "'system'",
    ),
    "activation": (change_config("dense", activation="deserialize"), "activation 'deserialize'"),
    "activation object": (change_config("dense", activation=LAMBDA), "__lambda__"),
    "dtype": (change_config("dense", dtype="resource"), "dtype 'resource'"),
    "dtype object": (change_config("dense", dtype={"class_name": "Policy", "config": {}}), "A dtype"),
    "object in an option": (change_config("dense", units=LAMBDA), "An option holds no object"),
    "module in an option": (change_config("dense", units={"module": "os"}), "An option holds no class"),
    "tensor": (
        change_config("dense", units={"class_name": "__tensor__", "config": {"value": 1, "dtype": "int8"}}),
        "holds no object",
    ),
    "type": (change_config("dense", units={"class_name": "TypeSpec", "type_spec": "tf.TensorSpec"}), "no object"),
    "TensorFlow function": (change_config("tf.__operators__.add", function="io.write_file"), "'io.write_file'"),
    "unhashable function": (change_config("tf.__operators__.add", function=["exp"]), r"\['exp'\]"),
    # Numbers
    "infinite": (change_config("dense", units=float("inf")), "must be finite"),
    "not a number": (change_config("dense", units=float("nan")), "must be finite"),
    "huge": (change_config("dense", units=10**12), "below 2"),
    "below": (change_config("dense", units=-(10**12)), "below 2"),
    "deep": (lambda model: change_config("dense", units=nested(200))(model), "100 deep"),
    "many": (change_config("dense", mean=[0] * 1_000_001), "At most 1000000 values"),
    # Connections
    "circle": (change_nodes("sparse", [[["dense", 0, 0, {}]]]), "without a circle"),
    "itself": (change_nodes("sparse", [[["sparse", 0, 0, {}]]]), "without a circle"),
    "a later call": (change_nodes("sparse", [[["image", 0, 0, {}]], [["dense", 1, 0, {}]]]), "without a circle"),
    "nobody": (change_nodes("sparse", [[["nobody", 0, 0, {}]]]), "output of another"),
    "another output": (change_nodes("sparse", [[["image", 0, 1, {}]]]), "output of another"),
    "output below": (change_nodes("sparse", [[["image", 0, -1, {}]]]), "output of another"),
    "output as text": (change_nodes("sparse", [[["image", 0, "0", {}]]]), "output of another"),
    "constants": (
        change_nodes("tf.__operators__.add", [["_CONSTANT_VALUE", -1, 1.0, {"y": 2.0}]]),
        "takes the output",
    ),
    "constants in a tuple": (
        change_nodes(
            "tf.__operators__.add",
            [["_CONSTANT_VALUE", -1, 1.0, {"y": {"class_name": "__tuple__", "items": ["image", 0, 0]}}]],
        ),
        "takes the output",
    ),
    "no inputs": (change_nodes("dense", [[]]), "takes the output"),
    "nodes of text": (change_nodes("dense", "image"), "inputs of a layer are lists"),
    "input": (lambda model: model["config"].update(input_layers=[["dense", 0, 0]]), "input_layers"),
    "output": (lambda model: model["config"].update(output_layers=[["nobody", 0, 0]]), "output_layers are"),
    # Structure
    "two of a name": (change_config("dense", name="norm"), "name of its own"),
    "no name": (change_config("dense", name=None), "A layer has a name"),
    "no config": (change_entry("dense", config=None), "A layer has a class"),
    "no layers": (lambda model: model["config"].update(layers=[]), "list of layers"),
    "another model": (lambda model: model.update(class_name="Model"), "functional or sequential"),
}  # fmt: skip


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_architecture_is_refused_before_keras_sees_it(described, case):
    change, match = HOSTILE[case]
    model = copy.deepcopy(described)
    change(model)
    with pytest.raises(ValueError, match=match):
        checking.check(model)


def repeated(depth):
    """A network whose layers are called 2^depth times, in a description that grows by a line a level."""
    inner = {"class_name": "Activation", "config": {"name": "a", "activation": "relu"}}
    shape = [None, 1]
    for level in range(depth):
        start = {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": shape}}
        first = int(level > 0)
        nodes = [[["i", 0, 0, {}]], [[inner["config"]["name"], first, 0, {}]]]
        config = {
            "name": f"net{level}",
            "layers": [{**start, "inbound_nodes": []}, {**inner, "inbound_nodes": nodes}],
            "input_layers": [["i", 0, 0]],
            "output_layers": [[inner["config"]["name"], first + 1, 0]],
        }
        inner = {"class_name": "Functional", "config": config}
    return inner


def test_calls_of_nested_models_are_counted():
    checking.check(repeated(6))
    model = architecture.build(repeated(3), 0)
    assert model(tf.constant([[-1.0]])).numpy() == 0
    with pytest.raises(ValueError, match="2000 inputs"):
        checking.check(repeated(12))


def test_inputs_of_one_call_are_counted(described):
    model = copy.deepcopy(described)
    add = {"class_name": "Add", "config": {"name": "add", "trainable": True, "dtype": "float32"}}
    add["inbound_nodes"] = [[["dense", 0, 0, {}]] * 20_000]
    model["config"]["layers"].append(add)
    with pytest.raises(ValueError, match="2000 inputs"):
        checking.check(model)


def test_long_options_are_refused():
    reshape = {"class_name": "Reshape", "config": {"name": "r", "target_shape": [1] * 20_000}}
    model = {"class_name": "Sequential", "config": {"name": "n", "layers": [reshape]}}
    with pytest.raises(ValueError, match="at most 1024.*20000 in 'target_shape'"):
        checking.check(model)
    reshape["config"]["target_shape"] = {"class_name": "__tuple__", "items": [1] * 20_000}
    with pytest.raises(ValueError, match="at most 1024.*20000 in 'target_shape'"):
        checking.check(model)


@pytest.mark.parametrize("as_tuple", [False, True])
def test_patterns_of_large_blocks_are_counted(as_tuple):
    shape = [1, 1, 16]

    def conv(number):
        blocks = {"class_name": "__tuple__", "items": shape} if as_tuple else shape
        options = {"name": f"c{number}", "codeword_shape": blocks, "num_codewords": 2}
        return {"class_name": "larq_sks>SKSConv2D", "config": options}

    model = {
        "class_name": "Sequential",
        "config": {"name": "n", "layers": list(map(conv, range(200)))},
    }
    with pytest.raises(ValueError, match="2000 inputs"):
        checking.check(model)
    shape[:] = [3, 3, 1]
    checking.check(model)


def test_the_name_of_a_registered_function_is_refused_anywhere(described):
    @tf.keras.utils.register_keras_serializable("tests")
    def my_function(x):
        return x

    model = copy.deepcopy(described)
    change_config("dense", units="tests>my_function")(model)
    with pytest.raises(ValueError, match="registered function"):
        checking.check(model)
    checking.check(model, {"tests>my_function": my_function})


class TestBudget:
    def test_a_layer_larger_than_the_weights_is_refused_before_it_is_made(self, described):
        model = copy.deepcopy(described)
        change_config("dense", units=2**31)(model)  # 64 GiB
        with pytest.raises(ValueError, match=r"Received: one of shape \(8, 2147483648\)"):
            architecture.build(model, 10_000)

    def test_weights_are_counted(self, described):
        elements = sum(np.prod(weight.shape) for weight in network().weights)
        model = architecture.build(described, elements)
        assert sum(np.prod(weight.shape) for weight in model.weights) == elements
        assert all(not np.any(weight.numpy()) for weight in model.weights)
        with pytest.raises(ValueError, match=f"{elements - 300} elements in all"):
            architecture.build(described, elements - 300)
