import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_sks.storage import compression, manifest

names = st.sampled_from(["Conv2D", "Add", "Dense"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 0.5])
    | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqr"), inner, max_size=2)
    ),
    max_leaves=5,
)
configs = st.dictionaries(st.sampled_from(["name", "units", "axis", "bias"]), values, max_size=4)
nodes = st.sampled_from([[], [[["a", 0, 0, {}]]], [[["", 0, 0, {}]]], [["a", 0, 0, {"y": 1}]]])


def networks(inner):
    entries = st.fixed_dictionaries(
        {"class_name": names, "config": configs, "inbound_nodes": nodes}
    )
    nested = st.fixed_dictionaries(
        {"class_name": st.just("Functional"), "config": inner, "inbound_nodes": nodes}
    )
    return st.fixed_dictionaries(
        {"name": st.just("net"), "layers": st.lists(entries | nested, max_size=5)}
    )


functional = st.fixed_dictionaries(
    {
        "class_name": st.just("Functional"),
        "config": st.recursive(networks(st.nothing()), networks, max_leaves=4),
    }
)


def compressed(content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return np.frombuffer(compression.compress(text), np.uint8)


@given(functional)
@settings(max_examples=200, deadline=None)
def test_what_is_packed_comes_back(network):
    content = {"model": network, "kernels": [["k", [3, 3], 1.0]]}
    # As JSON, in which 1, 1.0 and true differ.
    found = manifest.unpack(manifest.pack(content))
    assert json.dumps(found, sort_keys=True) == json.dumps(content, sort_keys=True)


def test_layers_of_a_class_share_their_options():
    def network(count):
        layers = [
            {
                "class_name": "Conv2D",
                "config": {"name": f"conv{number}", **{f"option{key}": key for key in range(50)}},
                "inbound_nodes": [[[f"conv{number - 1}" if number else None, 0, 0, {}]]],
            }
            for number in range(count)
        ]
        return {"model": {"class_name": "Functional", "config": {"name": "net", "layers": layers}}}

    one, many = (len(manifest.pack(network(count))) for count in (1, 101))
    assert many - one < 300  # three bytes a layer, the names being alike


def test_numbers_are_finite():
    model = {"class_name": "Sequential", "config": {"name": "n", "layers": [], "x": float("nan")}}
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest.pack({"model": model})
    with pytest.raises(ValueError, match="Received: NaN"):
        manifest.unpack(compressed(b'{"model": NaN}'))


def test_bombs_are_refused():
    # 1 GiB of spaces is 150 KB; 10^5 layers with the options of the first are 10^10 options.
    bomb = compressed(b" " * manifest.MAX_JSON + b"{}")
    assert len(bomb) < 3000
    with pytest.raises(ValueError, match="at most 4194304 bytes"):
        manifest.unpack(bomb)
    first = {"class_name": "A", "config": {f"o{key}": 0 for key in range(10_000)}}
    layers = [first] + [{"like": "A", "config": {}}] * 10_000
    with pytest.raises(ValueError, match="options in all"):
        manifest.unpack(compressed({"model": {"class_name": "F", "config": {"layers": layers}}}))
    deep = b'{"model":' + b"[" * 100_000
    with pytest.raises(RecursionError):
        manifest.unpack(compressed(deep))


def test_what_is_too_large_is_not_written():
    layer = {"class_name": "A", "config": {"text": "x" * manifest.MAX_JSON}}
    with pytest.raises(ValueError, match="must fit into"):
        manifest.pack({"model": {"class_name": "Sequential", "config": {"layers": [layer]}}})


@pytest.mark.parametrize("change", [lambda data: data[:-3], lambda data: np.append(data, data[:5])])
def test_cut_and_longer_bytes_are_refused(change):
    data = manifest.pack({"model": {"class_name": "Sequential", "config": {"layers": []}}})
    with pytest.raises(ValueError, match=r"one piece|decompressed"):
        manifest.unpack(change(data))
