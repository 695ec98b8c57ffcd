import json

import numpy as np
import pytest
import tensorflow as tf

from larq_sks import codebook, layers, selections
from larq_sks.selections import Fixed, Permutation, Selection


@tf.keras.utils.register_keras_serializable("tests")
class Last(Selection):
    """A user's own selection: the codewords with the largest integers, `step` apart."""

    def __init__(self, step=1, **kwargs):
        super().__init__(**kwargs)
        self.step = step

    def start_indices(self, num_patterns, num_codewords):
        return num_patterns - 1 - self.step * np.arange(num_codewords)

    def get_config(self):
        return {**super().get_config(), "step": self.step}


@tf.keras.utils.register_keras_serializable("tests")
class Best(Selection):
    """A user's own selection that learns: a score for each codeword, the best are selected."""

    def start_indices(self, num_patterns, num_codewords):
        return np.arange(num_codewords)

    def build(self, codewords_shape):
        super().build(codewords_shape)
        self.num_codewords, block_size = codewords_shape
        start = tf.keras.initializers.Constant(np.linspace(1.0, 0.5, 2**block_size))
        self.scores = self.add_weight("scores", (2**block_size,), initializer=start)

    def codewords(self, training=None):
        if not training:
            return super().codewords()
        scores, indices = tf.math.top_k(self.scores, self.num_codewords)
        self.store(indices)
        return super().codewords() * (1.0 + scores - tf.stop_gradient(scores))[:, tf.newaxis]


def build(selection, num_codewords=4, block_size=4):
    selection.build((num_codewords, block_size))
    return selection


def favour(selection, rows, size=5.0):
    """Sets logits whose best rows are plain to see."""
    logits = np.zeros(selection._logits.shape, np.float32)
    logits[rows, np.arange(len(rows))] = size
    selection._logits.assign(logits)


def draws(selection, steps=6):
    """The codewords of some training steps, as integers."""
    return [codebook.to_codewords(selection.codewords(True)).tolist() for _ in range(steps)]


# Fixed, and selections of one's own


def test_fixed_gives_the_codewords_it_was_told():
    selection = build(Fixed([3, 0, 15]), 3)
    assert selection.indices.tolist() == [3, 0, 15]
    expected = [[1, 1, -1, -1], [-1, -1, -1, -1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(selection.codewords(), expected)
    np.testing.assert_array_equal(selection.codewords(training=True), expected)
    assert selection.trainable_weights == []


@pytest.mark.parametrize("cls", [Fixed, Permutation])
def test_random_subsets_follow_the_seed(cls):
    def subset(seed):
        return build(cls(seed=seed), 16, 9).indices.tolist()

    assert subset(1) == subset(1) != subset(2)
    assert len(set(subset(1))) == 16
    tf.keras.utils.set_random_seed(5)
    first = subset(None)
    second = subset(None)
    tf.keras.utils.set_random_seed(5)
    assert subset(None) == first != second


def test_own_selection_quantises_and_is_made_anew_from_its_config():
    selection = selections.get(Last(step=2))
    assert build(selection, 3).indices.tolist() == [15, 13, 11]
    np.testing.assert_array_equal(selection.codewords(True), codebook.to_signs([15, 13, 11], 4))
    config = json.loads(json.dumps(selections.serialize(selection)))
    assert build(selections.get(config), 3).indices.tolist() == [15, 13, 11]


def test_own_selection_stores_what_a_step_chose():
    normal = tf.keras.initializers.RandomNormal(seed=0)
    layer = layers.SKSConv2D(32, 3, num_codewords=4, selection=Best(), kernel_initializer=normal)
    model = tf.keras.Sequential([layer])
    images = tf.random.stateless_normal((2, 4, 4, 1), seed=[1, 2])
    model.build(images.shape)
    selection = layer.kernel_quantizer.selection
    assert selection.indices.tolist() == [0, 1, 2, 3]
    selection.scores.assign(tf.tensor_scatter_nd_add(selection.scores, [[300], [9]], [2.0, 1.0]))
    model(images)
    assert selection.indices.tolist() == [0, 1, 2, 3]  # not in inference
    model.compile("sgd", "mse")
    before = selection.scores.numpy()
    model.fit(images, tf.zeros(model(images).shape), verbose=0)
    assert selection.indices.tolist() == [300, 9, 0, 1]
    assert np.flatnonzero(selection.scores.numpy() != before).tolist() == [0, 1, 9, 300]
    again = selections.get(json.loads(json.dumps(selections.serialize(selection))))
    assert isinstance(again, Best)


def test_own_selection_must_say_where_it_starts():
    with pytest.raises(NotImplementedError, match="start_indices"):
        build(Selection())


def test_own_selection_is_checked():
    with pytest.raises(ValueError, match="`indices` must be .* from 0 to 15.*-1"):
        build(Last(step=4), 5)


# Permutation


def test_permutation_starts_from_its_start():
    selection = build(Permutation(start=[9, 2, 4], boost=2.0, logit_scale=8.0), 3)
    assert selection.indices.tolist() == [9, 2, 4]
    logits = np.zeros((16, 3))
    logits[[9, 2, 4], [0, 1, 2]] = 2.0 / 8.0
    np.testing.assert_array_equal(selection._logits, logits)
    assert draws(selection, 1) == [[9, 2, 4]]


def test_only_the_logits_are_trainable():
    selection = build(Permutation())
    assert [weight.name for weight in selection.trainable_weights] == ["logits:0"]
    assert [weight.dtype.name for weight in selection.weights if "indices" in weight.name] == [
        "int64"
    ]


@pytest.mark.parametrize("full", [False, True])
def test_training_steps_follow_the_logits_and_store_what_they_selected(full):
    selection = build(Permutation(start=[0, 1, 2], full_permutation=full), 3)
    favour(selection, [7, 5, 12])
    assert selection.indices.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(selection.codewords(), codebook.to_signs([0, 1, 2], 4))
    assert draws(selection, 1) == [[7, 5, 12]]
    assert selection.indices.tolist() == [7, 5, 12]
    np.testing.assert_array_equal(selection.codewords(), codebook.to_signs([7, 5, 12], 4))


@pytest.mark.parametrize("training", [None, False, tf.constant(False)])
def test_outside_training_nothing_moves(training):
    selection = build(Permutation(start=[0, 1, 2], noise=3.0), 3)
    favour(selection, [7, 5, 12])
    for _ in range(3):
        np.testing.assert_array_equal(
            selection.codewords(training), codebook.to_signs([0, 1, 2], 4)
        )
    assert selection.indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize("full", [False, True])
def test_gradient_moves_the_logits_to_better_codewords(full):
    """A loss that asks for codewords 5 and 10 ends with them selected."""
    selection = build(
        Permutation(start=[0, 15], boost=0.5, logit_scale=2.0, full_permutation=full), 2
    )
    wanted = codebook.to_signs([5, 10], 4)
    optimizer = tf.keras.optimizers.SGD(0.2)
    for _ in range(30):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_sum(selection.codewords(True) * wanted)
        (gradient,) = tape.gradient(loss, selection.trainable_weights)
        assert np.abs(gradient[:, :2]).max() > 0
        optimizer.apply_gradients([(gradient, selection.trainable_weights[0])])
    assert selection.indices.tolist() == [5, 10]


def test_logit_scale_multiplies_logits_and_their_rate():
    plans, gradients = [], []
    for scale in (1.0, 10.0):
        selection = build(Permutation(start=[0, 15], boost=1.0, logit_scale=scale), 2)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(selection.codewords(True) * codebook.to_signs([5, 10], 4))
        gradients.append(tape.gradient(loss, selection._logits))
        plans.append(selection.relaxed())
    np.testing.assert_allclose(plans[0], plans[1], rtol=1e-5)
    np.testing.assert_allclose(10 * gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_temperature_divides_the_logits_and_hardens_the_plan():
    warm = build(Permutation(temperature=2.0, start=[0, 15], boost=2.0), 2)
    same = build(Permutation(temperature=1.0, start=[0, 15], boost=1.0), 2)
    np.testing.assert_allclose(warm.relaxed(), same.relaxed(), rtol=1e-5)
    warm.temperature = 0.25
    assert warm.temperature == 0.25
    hard = build(Permutation(temperature=1.0, start=[0, 15], boost=8.0), 2)
    np.testing.assert_allclose(warm.relaxed(), hard.relaxed(), rtol=1e-5)


def test_relaxed_is_a_plan():
    slack = build(Permutation(start=[0, 15]), 2).relaxed().numpy()
    full = build(Permutation(start=[0, 15], full_permutation=True), 2).relaxed().numpy()
    assert slack.shape == (16, 3) and full.shape == (16, 16)
    for plan in (slack, full):
        np.testing.assert_allclose(plan.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(slack[:, :2], full[:, :2], rtol=0.2)


def test_noise_follows_the_seed_and_each_step_draws_anew():
    def run(**settings):
        return draws(build(Permutation(start=[0, 1, 2, 3], boost=0.1, **settings)))

    seeded = run(noise=2.0, seed=7)
    assert seeded == run(noise=2.0, seed=7) != run(noise=2.0, seed=8)
    assert len({str(step) for step in seeded}) > 3
    assert all(len(set(step)) == 4 for step in seeded)
    tf.keras.utils.set_random_seed(3)
    drawn = run(noise=2.0)
    tf.keras.utils.set_random_seed(3)
    assert run(noise=2.0) == drawn
    assert run(noise=0.0, seed=7) == [[0, 1, 2, 3]] * 6


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_steps_draw_the_same_noise(jit_compile):
    def steps(seed):
        selection = build(Permutation(start=[0, 1, 2, 3], boost=0.1, noise=2.0, seed=seed))
        step = tf.function(lambda: selection.codewords(True), jit_compile=jit_compile)
        used = [codebook.to_codewords(step()).tolist() for _ in range(4)]
        assert selection.indices.tolist() == [0, 1, 2, 3]
        return used

    first = steps(7)
    assert first == steps(7) != steps(8)
    assert len({str(step) for step in first}) == 4
    eager = build(Permutation(start=[0, 1, 2, 3], boost=0.1, noise=2.0, seed=7))
    assert first == draws(eager, 4)


def test_stored_selection_is_without_noise():
    selection = build(Permutation(start=[0, 1, 2, 3], boost=0.1, noise=5.0, seed=1))
    favour(selection, [7, 5, 12, 9], size=0.02)
    used = draws(selection, 3)
    assert [7, 5, 12, 9] not in used
    assert selection.indices.tolist() == [7, 5, 12, 9]


def test_noise_can_be_set():
    selection = build(Permutation(start=[0, 1, 2, 3], boost=0.1, seed=1))
    assert draws(selection, 3) == [[0, 1, 2, 3]] * 3
    selection.noise = 5.0
    assert selection.noise == 5.0
    assert draws(selection, 3) != [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("phase", ["frozen", "whole"])
def test_other_phases_keep_the_stored_codewords(phase):
    selection = build(Permutation(start=[0, 1, 2, 3], noise=5.0))
    assert selection.phase == "learn" and not selection.whole()
    selection.phase = phase
    assert selection.phase == phase and bool(selection.whole()) == (phase == "whole")
    favour(selection, [7, 5, 12, 9])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(selection.codewords(True) * codebook.to_signs([5, 10, 6, 8], 4))
    gradient = tape.gradient(loss, selection._logits)
    assert gradient is None or not np.any(gradient)
    assert draws(selection, 2) == [[0, 1, 2, 3]] * 2
    assert selection.indices.tolist() == [0, 1, 2, 3]
    selection.phase = "learn"
    selection.noise = 0.0
    assert draws(selection, 1) == [[7, 5, 12, 9]]


@pytest.mark.parametrize("full", [False, True])
def test_start_from_selects_now_and_learns_on(full):
    selection = build(Permutation(start=[0, 1, 2], full_permutation=full, boost=1.5), 3)
    selection.phase = "whole"
    selection.start_from(np.array([4, 11, 6]))
    assert selection.phase == "learn"
    assert selection.indices.tolist() == [4, 11, 6]
    fresh = build(Permutation(start=[4, 11, 6], full_permutation=full, boost=1.5), 3)
    np.testing.assert_array_equal(selection._logits, fresh._logits)
    assert draws(selection, 1) == [[4, 11, 6]]


@pytest.mark.parametrize(
    "indices, received",
    [([1, 2], "2 of them"), ([1, 2, 2], "2 more than once"), ([1, 2, 16], "values from 1 to 16")],
)
def test_start_from_rejects_what_is_no_selection(indices, received):
    selection = build(Permutation(start=[0, 1, 2]), 3)
    with pytest.raises(ValueError, match=f"`indices` must be .*3 different integers.*{received}"):
        selection.start_from(indices)
    assert selection.indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize("cls", [Fixed, Last])
def test_every_selection_starts_from_given_codewords(cls):
    selection = build(cls(), 3)
    selection.start_from(np.array([4, 11, 6]))
    assert selection.indices.tolist() == [4, 11, 6]
    np.testing.assert_array_equal(selection.codewords(True), codebook.to_signs([4, 11, 6], 4))
    with pytest.raises(ValueError, match="`indices` must be .*3 different integers.*2 of them"):
        selection.start_from([1, 2])
    assert selection.indices.tolist() == [4, 11, 6]
    with pytest.raises(ValueError, match="holds no weights yet"):
        cls().start_from([1, 2, 3])


# Arguments


@pytest.mark.parametrize(
    "cls, argument, value, received",
    [
        *(
            (cls, argument, value, received)
            for cls, argument in [(Permutation, "start"), (Fixed, "indices")]
            for value, received in [
                ([3, 1, 3], "3 more than once"),
                ([-1, 2], "values from -1 to 2"),
                ([0, 65536], "values from 0 to 65536"),
                ([0.0, 1.0], "float64"),
                ([True, False], "bool"),
                ("12", "shape"),
                ([[1, 2]], r"shape \(1, 2\)"),
                ([], r"shape \(0,\)"),
            ]
        ),
        *(
            (Permutation, argument, value, f"{argument}={value!r}")
            for argument in ["temperature", "noise", "boost", "logit_scale"]
            for value in [-1.0, float("nan"), float("inf"), "1", None, True]
        ),
        (Permutation, "temperature", 0, "temperature=0"),
        (Permutation, "logit_scale", 0.0, "logit_scale=0.0"),
        *(
            (Permutation, "iterations", value, f"iterations={value!r}")
            for value in [0, 41, 2.5, True]
        ),
        *(
            (cls, "seed", value, f"seed={value!r}")
            for cls in [Permutation, Fixed]
            for value in [-1, 2**32, 1.5, "1"]
        ),
    ],
)
def test_bad_arguments_are_named(cls, argument, value, received):
    with pytest.raises(ValueError, match=f"(?s)`{argument}` must be .*Received: .*{received}"):
        cls(**{argument: value})


@pytest.mark.parametrize(
    "setting, value", [("temperature", 0.0), ("noise", -1.0), ("phase", "done")]
)
def test_bad_settings_are_named_and_change_nothing(setting, value):
    selection = build(Permutation())
    before = getattr(selection, setting)
    with pytest.raises(ValueError, match=f"`{setting}` must be .*Received: {setting}={value!r}"):
        setattr(selection, setting, value)
    assert getattr(selection, setting) == before


@pytest.mark.parametrize("cls, argument", [(Permutation, "start"), (Fixed, "indices")])
def test_codewords_must_fit_the_codebook_when_built(cls, argument):
    with pytest.raises(
        ValueError, match=f"`{argument}` must be .*from 0 to 15.*values from 0 to 16"
    ):
        build(cls([0, 16]) if cls is Fixed else cls(start=[0, 16]), 2)
    with pytest.raises(ValueError, match=f"`{argument}` must be .*3 different.*2 of them"):
        build(cls([0, 1]) if cls is Fixed else cls(start=[0, 1]), 3)


def test_too_many_logits_are_an_error_before_they_are_made():
    with pytest.raises(ValueError, match=r"(?s)`num_codewords`.*4259840 logits.*num_codewords=65"):
        build(Permutation(), 65, 16)
    with pytest.raises(ValueError, match=r"(?s)`num_codewords`.*full_permutation=True"):
        build(Permutation(full_permutation=True), 4, 12)
    build(Permutation(), 1, 16)


# Names, configs and copies


@pytest.mark.parametrize(
    "selection",
    [
        Permutation(
            temperature=0.5,
            noise=0.1,
            iterations=7,
            full_permutation=True,
            start=[3, 1],
            boost=1.0,
            logit_scale=2.0,
            seed=4,
        ),
        Permutation(),
        Fixed([3, 1]),
        Fixed(seed=4),
        Last(step=2),
    ],
)
def test_configs_survive_json_and_make_an_equal_selection(selection):
    config = json.loads(json.dumps(selections.serialize(selection)))
    copy = selections.get(config)
    assert type(copy) is type(selection)
    assert copy.get_config() == selection.get_config()


def test_get_knows_names():
    assert type(selections.get("permutation")) is Permutation
    assert type(selections.get("fixed")) is Fixed


def test_get_copies_so_that_no_two_kernels_share_a_selection():
    selection = Permutation(start=[0, 1], temperature=0.5)
    first, second = (build(selections.get(selection), 2) for _ in range(2))
    first.start_from([8, 9])
    assert second.indices.tolist() == [0, 1] and second.temperature == 0.5
    assert not selection.built


@pytest.mark.parametrize("identifier", ["hungarian", 3, None, Permutation])
def test_get_rejects_anything_else(identifier):
    with pytest.raises(ValueError, match="(?s)`selection` must be .*permutation.*Received"):
        selections.get(identifier)


def test_get_says_that_a_class_must_be_registered():
    with pytest.raises(
        ValueError, match="`selection` must be a selection registered.*nobody>Knows"
    ):
        selections.get({"class_name": "nobody>Knows", "config": {}})


def test_a_selection_without_weights_says_how_to_get_them():
    selection = Permutation()
    for use in (
        lambda: selection.indices,
        lambda: selection.temperature,
        lambda: selection.phase,
        lambda: selection.start_from([1, 2]),
        lambda: setattr(selection, "temperature", 1.0),
    ):
        with pytest.raises(
            ValueError, match="holds no weights yet.*layer.kernel_quantizer.selection"
        ):
            use()


def test_the_scale_of_the_logits_is_a_variable():
    selection = build(Permutation(start=[3, 5, 7, 9], boost=4.0, logit_scale=8.0))
    np.testing.assert_allclose(selection._logits.numpy().max(), 0.5)
    relaxed = selection.relaxed().numpy()
    selection.logit_scale = 16.0
    assert selection.logit_scale == 16.0
    np.testing.assert_array_equal(
        selection.relaxed(), build(Permutation(start=[3, 5, 7, 9], boost=8.0)).relaxed()
    )
    assert (selection.relaxed().numpy()[3, 0] > relaxed[3, 0]).all()
    selection.start_from([1, 2, 3, 4])
    np.testing.assert_allclose(selection._logits.numpy().max(), 0.25)
    with pytest.raises(ValueError, match="`logit_scale`.*above 0.*logit_scale=0"):
        selection.logit_scale = 0


@pytest.mark.parametrize("config", [{}, {"class_name": "ReLU"}, {"class_name": "Custom>ReLU"}])
def test_get_refuses_what_is_no_selection(config):
    with pytest.raises(ValueError, match="`selection` must be a selection registered"):
        selections.get(config)


def test_indices_of_unequal_rows_are_refused():
    with pytest.raises(ValueError, match="`indices` must be a list of different integers"):
        Fixed([[1], [2, 3]])
