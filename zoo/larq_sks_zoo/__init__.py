"""Networks and data for larq_sks, as larq_zoo is to larq."""

from larq_sks_zoo.images import CLASSES, augmented, load_cifar10_sample, preprocess_input
from larq_sks_zoo.resnet import ResNet8, ResNet20

__all__ = [
    "CLASSES",
    "ResNet8",
    "ResNet20",
    "augmented",
    "load_cifar10_sample",
    "preprocess_input",
]
