"""What a recipe is: the numbers of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

OPTIMIZERS = ("adam", "adam_and_sgd")
DECAYS = ("cosine", "linear")


@dataclass(frozen=True)
class Stage:
    """One part of a training run, with an optimizer and a learning rate of its own."""

    epochs: int
    batch_size: int
    """Images in a step, of all devices together."""
    rate: float
    """The highest learning rate."""
    warmup: int
    """Epochs in which the rate rises from 0, on a straight line."""
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    """`"adam"`, or `"adam_and_sgd"`: Adam for binary kernels, SGD for the rest."""
    decay: str = "cosine"
    """The line on which the rate falls to 0: `"cosine"` or `"linear"`."""
    weight_decay: float = 0.0
    """Part of the weights that a step takes away, times the learning rate."""
    binary_kernels: bool = True
    """Whether kernels are binary; if not they are floats, and only the inputs are binary."""

    def __post_init__(self):
        for name, allowed in (("optimizer", OPTIMIZERS), ("decay", DECAYS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` must be one of {allowed}. Received: {name}={getattr(self, name)!r}."
                )
        if not 0 <= self.warmup < self.epochs:
            raise ValueError(
                "`warmup` must be 0 or more and leave an epoch for the rest. "
                f"Received: warmup={self.warmup}, epochs={self.epochs}."
            )
        if self.warmup and self.decay == "linear":
            raise ValueError(
                "`warmup` is for the decay 'cosine'. Received: "
                f"warmup={self.warmup}, decay={self.decay!r}."
            )
        if self.weight_decay and self.optimizer != "adam":
            raise ValueError(
                "`weight_decay` is for the optimizer 'adam'. Received: "
                f"weight_decay={self.weight_decay}, optimizer={self.optimizer!r}."
            )


@dataclass(frozen=True)
class Recipe:
    """How a network learns a data set, at 1 bit a weight and with fewer."""

    name: str
    """Such as `"resnet20-cifar10"`."""
    network: str
    """Name of the function of `larq_sks_zoo` that builds it."""
    dataset: str
    """A name that `larq_sks_zoo.training.datasets.read` knows."""
    stages: tuple[Stage, ...]
    """From random weights; kernels are binary in the last."""
    compact: Stage
    """Fine-tuning with n codewords, from a trained 1-bit network."""
    description: str
    options: dict = field(default_factory=dict)
    """Further arguments of the network's function."""

    def __post_init__(self):
        if not self.stages or not (self.stages[-1].binary_kernels and self.compact.binary_kernels):
            raise ValueError(
                "`stages` must be one or more, with binary kernels in the last and in `compact`. "
                f"Received: {self.name} with {self.stages} and {self.compact}."
            )
