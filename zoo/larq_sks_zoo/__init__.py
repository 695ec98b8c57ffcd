"""Networks and data for larq_sks, as larq_zoo is to larq."""

from larq_sks_zoo import pretrained
from larq_sks_zoo.imagenet import (
    BinaryResNetE18,
    BiRealNet,
    QuickNet,
    QuickNetLarge,
    QuickNetSmall,
    RealToBinaryNet,
)
from larq_sks_zoo.images import CLASSES, augmented, load_cifar10_sample, preprocess_input
from larq_sks_zoo.quicknet import QuickNetSmall32
from larq_sks_zoo.resnet import ResNet8, ResNet20
from larq_sks_zoo.resnet18 import ResNet18
from larq_sks_zoo.vgg import VGGSmall

NETWORKS = (
    ResNet8,
    ResNet20,
    ResNet18,
    VGGSmall,
    QuickNetSmall32,
    QuickNetSmall,
    QuickNet,
    QuickNetLarge,
    BinaryResNetE18,
    BiRealNet,
    RealToBinaryNet,
)
"""The functions that build networks: first those for small images, then those of larq-zoo."""

__all__ = [
    "CLASSES",
    "NETWORKS",
    "BiRealNet",
    "BinaryResNetE18",
    "QuickNet",
    "QuickNetLarge",
    "QuickNetSmall",
    "QuickNetSmall32",
    "RealToBinaryNet",
    "ResNet8",
    "ResNet18",
    "ResNet20",
    "VGGSmall",
    "augmented",
    "load_cifar10_sample",
    "preprocess_input",
    "pretrained",
]
