"""What the operators should compute, in NumPy and apart from any kernel."""

from __future__ import annotations

import numpy as np

from tflite_file import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, output_size

_RANGES = {NONE: (-np.inf, np.inf), RELU: (0, np.inf), RELU_N1_TO_1: (-1, 1), RELU6: (0, 6)}


def sums(images: np.ndarray, signs: np.ndarray, groups: int, options: dict) -> np.ndarray:
    """The convolution of the images' signs, as integers."""
    x = np.where(images < 0, -1, 1)
    out, kh, kw, group_channels = signs.shape
    height, width = output_size(x.shape[1:3], (kh, kw), options)
    stride = options["stride_height"], options["stride_width"]
    dilation = options["dilation_height_factor"], options["dilation_width_factor"]
    if options["padding"] == SAME:
        pads = []
        for count, pixels, size, s, d in zip(
            (height, width), x.shape[1:3], (kh, kw), stride, dilation
        ):
            missing = max(0, (count - 1) * s + (size - 1) * d + 1 - pixels)
            pads.append((missing // 2, missing - missing // 2))
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=options["pad_values"])
    result = np.zeros((len(x), height, width, out), np.int64)
    per_group = out // groups
    for ky in range(kh):
        for kx in range(kw):
            rows = ky * dilation[0] + stride[0] * np.arange(height)
            columns = kx * dilation[1] + stride[1] * np.arange(width)
            pixels = x[:, rows[:, np.newaxis], columns]
            for g in range(groups):
                o, c = (
                    slice(g * per_group, (g + 1) * per_group),
                    slice(g * group_channels, (g + 1) * group_channels),
                )
                result[..., o] += pixels[..., c] @ signs[o, ky, kx].astype(np.int64).T
    return result


def conv(
    images, signs, groups, options, output, multiplier, bias, thresholds, scale, zero_point
) -> np.ndarray:
    """What `tflite_file.conv_model` of these arguments gives."""
    value = sums(images, signs, groups, options)
    weights = signs[0].size
    if output == "bits":
        # A threshold is compared with the number of weights that differ from the input.
        return np.where(weights - value > 2 * np.asarray(thresholds, np.int64), -1, 1).astype(
            np.float32
        )
    low, high = _RANGES[options["fused_activation_function"]]
    twice_popcount = weights - np.clip(value, max(low, -weights), min(high, weights))
    scale, zero_point = (
        (np.float64(np.float32(scale)), zero_point) if output == "int8" else (1.0, 0)
    )
    multiplier, bias = (np.asarray(a, np.float32).astype(np.float64) for a in (multiplier, bias))
    factor = np.float32(-multiplier / scale)
    offset = np.float32((bias + weights * multiplier) / scale + zero_point)
    value = np.float32(twice_popcount) * factor + offset
    if output == "float32":
        return value
    away_from_zero = np.trunc(value) + np.where(
        np.abs(value - np.trunc(value)) >= 0.5, np.sign(value), 0
    )
    return np.clip(away_from_zero, -128, 127).astype(np.int8)
