"""Who chooses the codewords that a kernel may use: `Permutation` learns them, `Fixed` is told.

A selection belongs to one quantizer. It is built with the number of codewords and their size, keeps
the selected rows of the codebook as integers among its weights, and gives out the codewords.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from larq_sks import codebook, pste, sinkhorn
from larq_sks._checks import check_indices, check_number, check_seed, is_integer
from larq_sks.starts import exchanged_coverage, greedy_coverage, most_frequent

__all__ = [
    "Fixed",
    "Permutation",
    "Selection",
    "exchanged_coverage",
    "get",
    "greedy_coverage",
    "most_frequent",
    "serialize",
]

MAX_LOGITS = 2**22
"""The most logits of a learned selection: 2^K patterns times n codewords."""

PHASES = ("whole", "learn", "frozen")

_register = tf.keras.utils.register_keras_serializable(package="larq_sks")
# Each replica keeps its own copy, and all compute the same from equal logits, so that an assignment
# need not synchronise them in the middle of a step.
_LOCAL = dict(
    trainable=False,
    synchronization=tf.VariableSynchronization.ON_READ,
    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
)


class Selection(tf.keras.layers.Layer):
    """Base class of all selections: n different rows of a codebook, stored as integers.

    Derive from it to write a selection of your own: `start_indices` says where it begins. From outside, such
    as a callback, `start_from` changes it; one that changes itself in training steps overrides `codewords`
    and calls `store` there. A Keras layer, for the sake of its weights.

    Example:
        ```python
        @tf.keras.utils.register_keras_serializable("my_package")
        class FirstOnes(sks.selections.Selection):
            def start_indices(self, num_patterns, num_codewords):
                return np.arange(num_codewords)
        ```
    """

    def __init__(self, **kwargs):
        # Near-ties between codewords need float32, whatever the network's precision.
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)

    def start_indices(self, num_patterns: int, num_codewords: int) -> np.ndarray:
        """Chooses the rows of the codebook that the selection begins with."""
        raise NotImplementedError(f"{type(self).__name__} must define `start_indices`.")

    def build(self, codewords_shape: Sequence[int]) -> None:
        num_codewords, block_size = codewords_shape
        self.patterns = codebook.patterns(block_size)
        start = self.start_indices(2**block_size, num_codewords)
        self._start = check_indices(start, 2**block_size, num_codewords)
        self._indices = self.add_weight(
            name="indices",
            shape=(num_codewords,),
            dtype=tf.int64,  # on GPUs TensorFlow keeps int32 variables on the host, out of XLA's reach
            initializer=_constant(self._start),
            **_LOCAL,
        )
        super().build(codewords_shape)

    def codewords(self, training=None) -> tf.Tensor:
        """Returns the codewords to quantise with.

        Arguments:
            training: Whether this is a training step: a bool, a boolean tensor, or `None` for no.

        Returns:
            Rows of -1 and +1, float32 `(n, block_size)`.
        """
        return tf.gather(self.patterns, self._indices)

    def _require_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"This `{type(self).__name__}` holds no weights yet. Build the layer or model that it "
                "belongs to first (call it on data, or give it an input shape), and reach the selection "
                "as `layer.kernel_quantizer.selection`: a layer copies the selection that it is given."
            )

    def start_from(self, indices: ArrayLike) -> None:
        """Selects given codewords, now, in place of those that the selection holds.

        Arguments:
            indices: n different integers from 0 to 2^K - 1, from `greedy_coverage` for example.

        Raises:
            ValueError: If they are not.
        """
        self._require_built()
        self._indices.assign(check_indices(indices, len(self.patterns), self._indices.shape[0]))

    def store(self, indices: tf.Tensor) -> None:
        """Makes the codewords that a training step chose those of inference: for `codewords` of subclasses.

        It runs in graphs, and so checks nothing. Call it in each training step and outside of any
        `tf.cond`, because an assignment within a branch fails on replicas.

        Example:
            ```python
            def codewords(self, training=None):
                if training:
                    self.store(tf.math.top_k(self.scores, self.num_codewords).indices)
                return super().codewords()
            ```

        Arguments:
            indices: n different integers from 0 to 2^K - 1, of any integer dtype.
        """
        self._indices.assign(tf.cast(indices, tf.int64))

    def whole(self) -> bool | tf.Tensor:
        """Tells whether all codewords may be used at present, which makes the quantizer a plain sign."""
        return False

    @property
    def indices(self) -> np.ndarray:
        """The selected codewords, n different integers, as int32 `(n,)`."""
        self._require_built()
        return self._indices.numpy().astype(np.int32)


@_register
class Fixed(Selection):
    """Selects given codewords, or a random subset, and never changes them.

    Example:
        ```python
        sks.layers.SKSConv2D(64, 3, num_codewords=4, selection=sks.selections.Fixed([0, 16, 495, 511]))
        sks.layers.SKSConv2D(64, 3, num_codewords=32, selection=sks.selections.Fixed(seed=1))
        ```

    Arguments:
        indices: The codewords as different integers from 0 to 2^K - 1, or `None` for a random subset.
        seed: Integer from 0 to 2^32 - 1 that decides the random subset; with `None` it comes from Python's
            global generator, which `tf.keras.utils.set_random_seed` sets. Layers of one size
            and one seed get the same subset.

    Raises:
        ValueError: If `indices` repeats a codeword or holds anything but integers in range.
    """

    def __init__(self, indices: Sequence[int] | None = None, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.given = None if indices is None else check_indices(indices).tolist()
        self.seed = check_seed(seed)

    def start_indices(self, num_patterns: int, num_codewords: int) -> np.ndarray:
        return _given_or_random(self.given, self.seed, num_patterns, num_codewords)

    def get_config(self):
        return {**super().get_config(), "indices": self.given, "seed": self.seed}


@_register
class Permutation(Selection):
    r"""Learns which codewords to select, by the permutation straight-through estimator.

    Trainable logits X of shape (N, n), N = 2^K, hold one column for each codeword. In training, Sinkhorn
    iterations relax `(X + noise · Gumbel) / temperature` to a plan, the plan is rounded to n different
    rows, these are used, and the plan receives the gradient in their place. What the step's logits round
    to without noise is stored with the weights as it runs, and is what inference uses: the selection
    that the weights and batch-norm statistics of that step belong to, one update behind the logits.

    A selection is in one of three phases, which `phase` reads and sets and which a
    `larq_sks.callbacks.SelectionSchedule` moves: in `"whole"` all codewords may be used, in `"learn"`
    (the initial one) the selection follows its logits, in `"frozen"` it keeps the stored codewords (an optimizer with
    momentum or weight decay may still move the logits, which then matter to nobody).

    Keras has one optimizer for all weights. The logits learn at a rate of their own because the
    trained variable is X̃ with X = `logit_scale` · X̃: under Adam, whose steps do not depend on the size of the
    gradient, X then moves `logit_scale` times as fast as the other weights; under SGD
    `logit_scale`² times.

    Example:
        ```python
        selection = sks.selections.Permutation(temperature=0.5, start=[0, 16, 495, 511])
        layer = sks.layers.SKSConv2D(64, 3, num_codewords=4, selection=selection)
        ```

    Arguments:
        temperature: Positive number that divides the logits: the lower, the harder the plan.
        noise: Size of the Gumbel noise in training, 0 or more.
        iterations: Sinkhorn iterations, from 1 to 40. With 10 the plan's rows sum to 1 and its columns to
            1 ± 0.02 for logits that moved by up to the boost, ± 0.15 under Gumbel noise of size 1.
        full_permutation: Whether to relax all N columns of the permutation instead of merging those
            that select nothing. The faithful reference: slow, and only for N·N ≤ 2^22.
        start: The codewords to begin with as n different integers, or `None` for a random subset.
        boost: How far the logits of the start stand above all others, 0 or more: a codeword goes only
            after the gradient has made up for it.
        logit_scale: Positive number: how much faster the logits learn than the optimizer says.
        seed: Integer from 0 to 2^32 - 1 that decides noise and random start; with `None` it comes from
            Python's global generator, which `tf.keras.utils.set_random_seed` sets.

    Raises:
        ValueError: If an argument is out of range, or (when built) if there are more than 2^22 logits.

    References:
        - [Compacting Binary Neural Networks by Sparse Kernel Selection](https://arxiv.org/abs/2303.14470)
        - [Learning Latent Permutations with Gumbel-Sinkhorn Networks](https://arxiv.org/abs/1802.08665)
    """

    def __init__(
        self,
        temperature: float = 1.0,
        noise: float = 0.0,
        iterations: int = 10,
        full_permutation: bool = False,
        start: Sequence[int] | None = None,
        boost: float = 6.0,
        logit_scale: float = 10.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self._first_temperature = check_number("temperature", temperature, positive=True)
        self._first_noise = check_number("noise", noise)
        self.boost = check_number("boost", boost)
        self._first_logit_scale = check_number("logit_scale", logit_scale, positive=True)
        if not is_integer(iterations) or not 1 <= iterations <= sinkhorn.MAX_ITERATIONS:
            raise ValueError(
                f"`iterations` must be an integer from 1 to {sinkhorn.MAX_ITERATIONS}. "
                f"Received: iterations={iterations!r}."
            )
        self.iterations = int(iterations)
        self.full_permutation = bool(full_permutation)
        self.given = None if start is None else check_indices(start, name="start").tolist()
        self.seed = check_seed(seed)

    def start_indices(self, num_patterns: int, num_codewords: int) -> np.ndarray:
        return _given_or_random(self.given, self.seed, num_patterns, num_codewords, name="start")

    def build(self, codewords_shape: Sequence[int]) -> None:
        num_codewords, block_size = codewords_shape
        num_patterns = 2**block_size
        columns = num_patterns if self.full_permutation else num_codewords
        if num_patterns * columns > MAX_LOGITS:
            raise ValueError(
                f"`num_codewords` is too large for a learned selection: {num_patterns} patterns times "
                f"{columns} columns are {num_patterns * columns} logits, allowed are {MAX_LOGITS}. "
                f"Received: num_codewords={num_codewords}, full_permutation={self.full_permutation}. "
                "Take fewer codewords, a smaller `codeword_shape`, or a `Fixed` selection."
            )
        super().build(codewords_shape)
        self._logits = self.add_weight(
            name="logits",
            shape=(num_patterns, columns),
            initializer=_constant(
                self._logits_for(self._start, num_patterns, columns) / self._first_logit_scale
            ),
        )
        scalars = dict(shape=(), trainable=False)
        self._logit_scale = self.add_weight(
            name="logit_scale", initializer=_constant(self._first_logit_scale), **scalars
        )
        self._temperature = self.add_weight(
            name="temperature", initializer=_constant(self._first_temperature), **scalars
        )
        self._noise = self.add_weight(
            name="noise", initializer=_constant(self._first_noise), **scalars
        )
        self._phase = self.add_weight(
            name="phase", dtype=tf.int64, initializer=_constant(PHASES.index("learn")), **scalars
        )
        seed = _drawn(self.seed)
        # The seed is a variable so that workers which drew different ones use the first worker's.
        self._draws = self.add_weight(
            name="draws", shape=(2,), dtype=tf.int64, initializer=_constant([seed, 0]), **_LOCAL
        )

    def _logits_for(self, indices: np.ndarray, num_patterns: int, columns: int) -> np.ndarray:
        logits = np.zeros((num_patterns, columns), np.float32)
        logits[indices, np.arange(len(indices))] = self.boost
        return logits

    def codewords(self, training=None) -> tf.Tensor:
        stored = super().codewords()
        if training is None or training is False:
            return stored
        learning = tf.equal(self._phase, PHASES.index("learn"))
        codewords, indices = tf.cond(
            tf.logical_and(learning, tf.cast(training, tf.bool)),
            self._choose,
            lambda: (stored, tf.cast(self._indices, tf.int32)),
        )
        self.store(indices)
        self._draws.assign_add([0, 1])
        return codewords

    def _choose(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the codewords to train with and the indices to store."""
        return pste.choose(
            self._logits * (self._logit_scale / self._temperature),
            self._noise / self._temperature,
            tf.identity(self._draws),
            self.patterns,
            iterations=self.iterations,
            count=self._indices.shape[0],
        )

    def whole(self) -> tf.Tensor:
        return tf.equal(self._phase, PHASES.index("whole"))

    def relaxed(self) -> tf.Tensor:
        """Relaxes the current logits, without noise, to the plan that the selection rounds.

        Returns:
            A float32 tensor `(2^K, n + 1)`, the unselected mass in the last column, or `(2^K, 2^K)` for
                the full permutation.
        """
        self._require_built()
        return pste.relax(self._logits * (self._logit_scale / self._temperature), self.iterations)

    def start_from(self, indices: ArrayLike) -> None:
        """Begins to learn from given codewords, now: they are selected and get the boost.

        Arguments:
            indices: n different integers from 0 to 2^K - 1, from `greedy_coverage` for example.

        Raises:
            ValueError: If they are not.
        """
        super().start_from(indices)
        logits = self._logits_for(self.indices, *self._logits.shape)
        self._logits.assign(logits / self._logit_scale)
        self.phase = "learn"

    @property
    def phase(self) -> str:
        """`"whole"`, `"learn"` or `"frozen"`; may be set at any time after the selection is built."""
        self._require_built()
        return PHASES[int(self._phase.numpy())]

    @phase.setter
    def phase(self, phase: str) -> None:
        if phase not in PHASES:
            raise ValueError(f"`phase` must be one of {PHASES}. Received: phase={phase!r}.")
        self._require_built()
        self._phase.assign(PHASES.index(phase))

    @property
    def temperature(self) -> float:
        """The temperature in use; may be set at any time after the selection is built."""
        self._require_built()
        return float(self._temperature.numpy())

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self._require_built()
        self._temperature.assign(check_number("temperature", temperature, positive=True))

    @property
    def noise(self) -> float:
        """The size of the Gumbel noise in use; may be set at any time after the selection is built."""
        self._require_built()
        return float(self._noise.numpy())

    @noise.setter
    def noise(self, noise: float) -> None:
        self._require_built()
        self._noise.assign(check_number("noise", noise))

    @property
    def logit_scale(self) -> float:
        """The scale of the logits in use; a new one scales all logits, the start's boost included."""
        self._require_built()
        return float(self._logit_scale.numpy())

    @logit_scale.setter
    def logit_scale(self, logit_scale: float) -> None:
        self._require_built()
        self._logit_scale.assign(check_number("logit_scale", logit_scale, positive=True))

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self._first_temperature,
            "noise": self._first_noise,
            "iterations": self.iterations,
            "full_permutation": self.full_permutation,
            "start": self.given,
            "boost": self.boost,
            "logit_scale": self._first_logit_scale,
            "seed": self.seed,
        }


_NAMES = {"permutation": Permutation, "fixed": Fixed}


def get(identifier: str | dict | Selection) -> Selection:
    """Makes a new selection from a name, a config, or another selection, which is copied.

    A copy, because a selection holds the weights of one kernel: the same object can be given to many
    layers, and each gets a selection of its own with the same settings.

    Example:
        ```python
        sks.selections.get("permutation")
        ```

    Arguments:
        identifier: `"permutation"`, `"fixed"`, a selection, or its serialised config.

    Returns:
        A selection that is not built yet.

    Raises:
        ValueError: If `identifier` is nothing of the kind.
    """
    if isinstance(identifier, str) and identifier in _NAMES:
        return _NAMES[identifier]()
    if isinstance(identifier, dict):
        cls = tf.keras.utils.get_registered_object(identifier.get("class_name"))
        if not (isinstance(cls, type) and issubclass(cls, Selection)):
            raise ValueError(
                "`selection` must be a selection registered with Keras to be loaded. "
                f"Received: class_name={identifier.get('class_name')!r}. Decorate the class with "
                "`tf.keras.utils.register_keras_serializable` and import its module first."
            )
        return cls.from_config(identifier["config"])
    if isinstance(identifier, Selection):
        return type(identifier).from_config(identifier.get_config())
    raise ValueError(
        f"`selection` must be one of {tuple(_NAMES)} or an object from `larq_sks.selections`. "
        f"Received: selection={identifier!r}."
    )


def serialize(selection: Selection) -> dict:
    """Describes a selection so that `get` makes it anew: its registered name and its config.

    Keras' own serialisation is not used because it differs between H5 and .keras files.
    """
    name = tf.keras.utils.get_registered_name(type(selection))
    return {"class_name": name, "config": selection.get_config()}


def _given_or_random(given, seed, num_patterns, num_codewords, name="indices") -> np.ndarray:
    if given is not None:
        return check_indices(given, num_patterns, num_codewords, name)
    generator = np.random.default_rng(_drawn(seed))
    return generator.permutation(num_patterns)[:num_codewords]


def _drawn(seed: int | None) -> int:
    return random.randrange(2**31) if seed is None else seed


def _constant(value):
    """A Keras initializer that takes arrays and integers as they are."""
    return lambda shape, dtype: tf.constant(value, dtype)
