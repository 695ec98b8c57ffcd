"""Training a network on the outputs of another: soft targets."""

from __future__ import annotations

import tensorflow as tf

from larq_sks._checks import check_number

_SMALLEST = 1e-37
"""Stands in for a probability that softmax rounded to 0; its logarithm is finite in float32."""


def distilled(
    student: tf.keras.Model,
    teacher: tf.keras.Model,
    temperature: float = 4.0,
    weight: float = 0.9,
) -> tf.keras.Model:
    r"""Makes a model whose `fit` trains the student on labels and on soft targets of the teacher.

    The loss of a step is (1 - weight) · (the loss that the model is compiled with) +
    weight · T² · KL(softmax(t / T) ‖ softmax(s / T)), with logits t of the teacher and s of the student,
    mean over the batch. Networks that end in softmax give s and t as logarithms of their probabilities.

    The student is trained in place, so it is there, unchanged in form, when training ends. The teacher
    runs in inference mode and is neither changed nor saved: checkpoints and weights hold the student.
    Logs show the loss on labels as `loss` and the second term, without its weight, as `distillation`;
    `evaluate` and `predict` are the student's. Under `tf.distribute`, make both networks and this model
    in the scope of the strategy.

    Example:
        ```python
        student, teacher = zoo.ResNet20(num_codewords=32), zoo.ResNet20(weights="cifar10")
        model = distilled(student, teacher)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        model.fit(batches)
        student.save("student.h5")
        ```

    Arguments:
        student: The network to train, functional or sequential, of one input and one output.
        teacher: A network on the same images with as many classes.
        temperature: T, above 0: the higher, the more the small probabilities count.
        weight: Share of the soft targets in the loss, from 0 to 1.

    Returns:
        A Keras model, to be compiled like the student.

    Raises:
        ValueError: If an argument is out of range, a network has no single known output, or the two have
            other inputs or other numbers of classes.

    References:
        - [Distilling the Knowledge in a Neural Network](https://arxiv.org/abs/1503.02531), section 2
    """
    return _Distilled(student, teacher, temperature, weight)


class _Distilled(tf.keras.Model):
    def __init__(self, student, teacher, temperature, weight):
        super().__init__(name=f"distilled_{getattr(student, 'name', '')}")
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight)
        if self.weight > 1:
            raise ValueError(f"`weight` must be from 0 to 1. Received: weight={weight!r}.")
        ends = [_ends_in_softmax(role, model) for role, model in _roles(student, teacher)]
        self._student_is_softmax, self._teacher_is_softmax = ends
        _check_shapes(student, teacher)
        self.student = student
        # In a function, where Keras doesn't find it: a part of the model would be trained and saved, and
        # callbacks would take its selections for the student's.
        self._targets = lambda images: _softened(
            teacher(images, training=False), self._teacher_is_softmax, self.temperature
        )
        self._distillation = tf.keras.metrics.Mean(name="distillation")
        self.build(student.input_shape)

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def train_step(self, data):
        images, labels, sample_weight = tf.keras.utils.unpack_x_y_sample_weight(data)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        targets = tf.stop_gradient(self._targets(images))
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            loss = tf.cast(self.compute_loss(images, labels, outputs, sample_weight), tf.float32)
            # What the layers add is no part of either term.
            added = tf.cast(tf.add_n(self.losses), tf.float32) / replicas if self.losses else 0.0
            students = _softened(outputs, self._student_is_softmax, self.temperature)
            divergence = tf.reduce_sum(tf.exp(targets) * (targets - students), axis=-1)
            soft = self.temperature**2 * tf.reduce_mean(divergence)
            # Replicas add up their gradients, so each takes its part of the mean, as Keras' losses do.
            loss = added + (1 - self.weight) * (loss - added) + self.weight * soft / replicas
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self._distillation.update_state(soft)
        return self.compute_metrics(images, labels, outputs, sample_weight)

    def test_step(self, data):
        logs = super().test_step(data)
        del logs[self._distillation.name]
        return logs


def _roles(student, teacher) -> list[tuple[str, tf.keras.Model]]:
    return [("student", student), ("teacher", teacher)]


def _ends_in_softmax(role: str, model: tf.keras.Model) -> bool:
    """Tells whether a network's outputs are probabilities."""
    names = getattr(model, "output_names", None)
    if not names or len(names) != 1:
        raise ValueError(
            f"`{role}` must be a built functional or sequential Keras model of one output, by whose last "
            f"layer one can tell logits from probabilities. Received: {role}={model!r}."
        )
    last = model.get_layer(names[0])
    # In mixed precision one more layer turns the outputs into float32.
    while isinstance(last, tf.keras.layers.Activation) and _has_activation(last, "linear"):
        last = last.input._keras_history.layer
    if isinstance(last, tf.keras.Model):
        return _ends_in_softmax(role, last)
    return isinstance(last, tf.keras.layers.Softmax) or _has_activation(last, "softmax")


def _has_activation(layer: tf.keras.layers.Layer, name: str) -> bool:
    return getattr(layer, "activation", None) is getattr(tf.keras.activations, name)


def _check_shapes(student: tf.keras.Model, teacher: tf.keras.Model) -> None:
    for what in ("input", "output"):
        shapes = [getattr(model, f"{what}_shape") for _, model in _roles(student, teacher)]
        if not tf.TensorShape(shapes[0]).is_compatible_with(shapes[1]):
            raise ValueError(
                f"`student` and `teacher` must have the same {what} shape. "
                f"Received: student {shapes[0]}, teacher {shapes[1]}."
            )


def _softened(outputs: tf.Tensor, is_softmax: bool, temperature: float) -> tf.Tensor:
    """Returns logarithms of the probabilities that a network gives at a temperature."""
    outputs = tf.cast(outputs, tf.float32)
    if is_softmax:
        outputs = tf.math.log(tf.maximum(outputs, _SMALLEST))
    return tf.nn.log_softmax(outputs / temperature)
