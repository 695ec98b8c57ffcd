"""An optimizer that gives binary kernels one rule and all other variables another."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def is_binary(variable: tf.Variable) -> bool:
    """Tells whether a variable decides the signs of a binary kernel.

    Example:
        ```python
        [variable.name for variable in model.trainable_variables if is_binary(variable)]
        ```

    Arguments:
        variable: A weight of a model.

    Returns:
        Whether it is a kernel that a Larq quantizer of precision 1 binarises, `SparseKernelSign`
            included, or the logits of a learned selection, which decide what such a kernel can be.
    """
    return getattr(variable, "precision", None) == 1 or variable.name.endswith("/logits:0")


@tf.keras.utils.register_keras_serializable(package="larq_sks_zoo")
class SplitOptimizer(tf.keras.optimizers.Optimizer):
    """Trains the binary kernels of a network by one optimizer and all other variables by another.

    Each of the two works as it would alone: with its own learning rate or schedule, weight decay and
    clipping. Which variables are binary: see `is_binary`. It takes the place of
    `larq.optimizers.CaseOptimizer`, which knows Keras' legacy optimizers only.

    Example:
        ```python
        optimizer = SplitOptimizer(
            binary=tf.keras.optimizers.Adam(1e-2), other=tf.keras.optimizers.SGD(0.1, momentum=0.9)
        )
        model.compile(optimizer, "sparse_categorical_crossentropy")
        ```

    Arguments:
        binary: A Keras optimizer for the binary kernels; steps and the learning rate that logs show are
            those of this one.
        other: Another Keras optimizer, for all other variables.
        name: Name of the optimizer.

    Raises:
        ValueError: If one of them is no optimizer of the present kind, or if both are one object; in
            the first step, if either would have no variables to train.
    """

    def __init__(
        self,
        binary: tf.keras.optimizers.Optimizer,
        other: tf.keras.optimizers.Optimizer,
        name: str = "split_optimizer",
    ):
        for argument, value in (("binary", binary), ("other", other)):
            if not isinstance(value, tf.keras.optimizers.Optimizer):
                raise ValueError(
                    f"`{argument}` must be a `tf.keras.optimizers.Optimizer`, not a legacy one. "
                    f"Received: {argument}={value!r}."
                )
        if binary is other:
            raise ValueError(
                "`binary` and `other` must be two optimizers, as each keeps the state of its own "
                f"variables. Received: {binary!r} for both."
            )
        super().__init__(name)
        self.binary, self.other = binary, other
        # Both count the same steps.
        self.iterations = binary.iterations
        self._variables: list[tf.Variable] = []

    def _split(self, pairs: list, variable_of: Callable) -> tuple[list, list]:
        """Splits a list into what concerns binary variables and the rest."""
        binary = [pair for pair in pairs if is_binary(variable_of(pair))]
        other = [pair for pair in pairs if not is_binary(variable_of(pair))]
        return binary, other

    def build(self, var_list):
        if getattr(self, "_built", False):
            return
        super().build(var_list)
        groups = self._split(list(var_list), lambda variable: variable)
        for argument, variables in zip(("binary", "other"), groups, strict=True):
            if not variables:
                raise ValueError(
                    f"`SplitOptimizer` has nothing to train by `{argument}`. Received: "
                    f"{len(var_list)} variables, binary kernels are {len(groups[0])} of them. Compile the "
                    "model with a single optimizer."
                )
            optimizer = getattr(self, argument)
            optimizer.build(variables)
            self._variables.extend(optimizer.variables)
        # The second counter has the first one's name, which an H5 file cannot hold twice.
        self._variables = [v for v in self._variables if v is not self.other.iterations]
        self._built = True

    def set_weights(self, weights):
        super().set_weights(weights)
        self.other.iterations.assign(self.iterations)

    def apply_gradients(self, grads_and_vars, name=None, **kwargs):
        pairs = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in pairs])
        binary, other = self._split(pairs, lambda pair: pair[1])
        self.other.apply_gradients(other, name, **kwargs)
        return self.binary.apply_gradients(binary, name, **kwargs)

    def update_step(self, gradient, variable):
        optimizer = self.binary if is_binary(variable) else self.other
        optimizer.update_step(gradient, variable)

    def finalize_variable_values(self, var_list):
        binary, other = self._split(list(var_list), lambda variable: variable)
        self.binary.finalize_variable_values(binary)
        self.other.finalize_variable_values(other)

    @property
    def learning_rate(self):
        return self.binary.learning_rate

    def get_config(self):
        return {
            "name": self.name,
            "binary": tf.keras.optimizers.serialize(self.binary),
            "other": tf.keras.optimizers.serialize(self.other),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        optimizers = {
            argument: tf.keras.optimizers.deserialize(config[argument], custom_objects)
            for argument in ("binary", "other")
        }
        return cls(**{**config, **optimizers})


def adam_and_sgd(
    rate: float, schedule: Callable[[float], tf.keras.optimizers.schedules.LearningRateSchedule]
) -> SplitOptimizer:
    """Makes the optimizer of larq-zoo's QuickNet: Adam for binary kernels, SGD for the rest.

    SGD has momentum 0.9 and ten times Adam's rate.

    Example:
        ```python
        cosine = tf.keras.optimizers.schedules.CosineDecay
        optimizer = adam_and_sgd(1e-2, lambda rate: cosine(rate, decay_steps=10_000))
        ```

    Arguments:
        rate: The highest rate of Adam, above 0.
        schedule: Makes a schedule out of the highest rate.

    Returns:
        A `SplitOptimizer`.

    References:
        - [Larq Compute Engine](https://arxiv.org/abs/2011.09398), section 4: QuickNet
    """
    return SplitOptimizer(
        tf.keras.optimizers.Adam(schedule(rate)),
        tf.keras.optimizers.SGD(schedule(10 * rate), momentum=0.9),
    )
