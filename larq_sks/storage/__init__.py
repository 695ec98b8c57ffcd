"""The .sks file: a network as its codewords, in the few bytes that they take."""

from larq_sks.storage.container import FormatError
from larq_sks.storage.kernels import LATENT
from larq_sks.storage.network import SaveReport, describe, load, save

__all__ = ["LATENT", "FormatError", "SaveReport", "describe", "load", "save"]
