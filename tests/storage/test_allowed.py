import pytest
import tensorflow as tf

from larq_sks.storage import allowed


def test_every_allowed_class_is_found_under_its_name():
    for role, members in allowed.classes().items():
        for name, cls in members.items():
            assert name.split(">")[-1] == cls.__name__, role
    assert not {"Lambda", "UpSampling1D", "TimeDistributed"} & allowed.objects().keys()


def test_every_allowed_function_makes_an_op_layer_of_that_name():
    op = allowed.classes()["op"]["TFOpLambda"]
    for name in allowed.FUNCTIONS - {"__operators__.getitem"}:
        assert op.from_config({"function": name}).symbol == name


@pytest.mark.parametrize("name", sorted(allowed.ACTIVATIONS))
def test_every_allowed_activation_exists(name):
    assert callable(tf.keras.activations.get(name))
