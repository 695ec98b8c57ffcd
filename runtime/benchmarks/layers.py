"""Times single 3x3 convolutions: Larq Compute Engine, this runtime classic and shared, and int8 without the delegate.

Needs larq-compute-engine; ai-edge-litert for the int8 figures that count, as TensorFlow's older XNNPACK is slower.

taskset -c 1 python layers.py --output results/CPU/layers
taskset -c 1 python layers.py --no-amx --output results/CPU/layers_no_amx
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import larq as lq
import larq_compute_engine
import numpy as np
import tensorflow as tf
from measure import LCE_SETTINGS, Record, alternate, best, lce, quartiles, ratio, stock, without_amx
from models import cached

SIZES = {64: 56, 128: 28, 256: 14, 512: 7}
"""Channels, and the size of the image that they have in a residual network."""


def binary_layer(channels: int, codewords: int) -> bytes:
    """An LCE file of one convolution whose kernels are codewords drawn at random."""
    rng = np.random.default_rng(0)
    inputs = tf.keras.Input((SIZES[channels], SIZES[channels], channels))
    layer = lq.layers.QuantConv2D(
        channels,
        3,
        input_quantizer="ste_sign",
        kernel_quantizer="ste_sign",
        padding="same",
        pad_values=1.0,
        use_bias=False,
    )
    model = tf.keras.Model(inputs, tf.keras.layers.BatchNormalization()(layer(inputs)))
    patterns = rng.permutation(512)[:codewords, None] >> np.arange(9) & 1
    kernels = patterns[rng.integers(codewords, size=(channels, channels))] * 2.0 - 1
    layer.set_weights([kernels.transpose(2, 0, 1).reshape(3, 3, channels, channels)])
    return larq_compute_engine.convert_keras_model(model)


def int8_layer(channels: int) -> bytes:
    """The same convolution in 8 bits."""
    rng = np.random.default_rng(0)
    size = SIZES[channels]
    inputs = tf.keras.Input((size, size, channels))
    model = tf.keras.Model(inputs, tf.keras.layers.Conv2D(channels, 3, padding="same")(inputs))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.normal(size=(1, size, size, channels)).astype("f4")] for _ in range(3)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codewords", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10, help="for each layer")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="folder in which files are kept",
    )
    parser.add_argument("--isa", default="auto", help="our kernels' instruction set")
    parser.add_argument("--no-amx", action="store_true", help="int8 without AMX")
    parser.add_argument("--output", help="writes OUTPUT.log and OUTPUT.json")
    args = parser.parse_args()
    if args.no_amx:
        without_amx()
    record = Record(args.output)
    record.print(
        f"3x3 layers, n = {args.codewords}, isa {args.isa}, 1 thread; ms of its processor time: median (quartiles)"
    )
    for channels, size in SIZES.items():
        data = cached(
            args.models / f"layer{channels}_{args.codewords}.tflite",
            lambda path, channels=channels: path.write_bytes(
                binary_layer(channels, args.codewords)
            ),
        )
        int8 = cached(
            args.models / f"layer{channels}_int8.tflite",
            lambda path, channels=channels: path.write_bytes(int8_layer(channels)),
        )
        calls = {name: lce(data, **settings) for name, settings in LCE_SETTINGS.items()}
        calls |= {
            kernel: stock(data, num_threads=1, kernel=kernel, isa=args.isa)
            for kernel in ("classic", "shared")
        }
        calls["int8, XNNPACK"] = stock(int8)
        for kernel in ("classic", "shared"):
            calls[f"{kernel}, no copies"] = stock(
                data, copies=False, num_threads=1, kernel=kernel, isa=args.isa
            )
        calls["int8, no copies"] = stock(int8, copies=False)
        expected = np.asarray(calls["LCE default"]()).ravel()
        for kernel in ("classic", "shared"):
            if not np.array_equal(calls[kernel]().ravel(), expected):
                raise AssertionError(
                    f"{kernel} kernels do not give LCE's outputs for {channels} channels"
                )
        times, _ = alternate(calls, args.seconds)
        record.figures[f"{channels} channels"] = times
        lce_best = best(times, LCE_SETTINGS)
        record.print(f"{channels} channels, {size}x{size}, {len(times['shared'])} rounds")
        for name in times:
            low, middle, high = quartiles(times[name])
            record.print(f"  {name:22s} {middle:8.3f} ({low:.3f} to {high:.3f})")
        record.print(
            f"  classic / shared {ratio(times, 'classic', 'shared'):.2f}; {lce_best} / classic {ratio(times, lce_best, 'classic'):.2f}, "
            f"/ shared {ratio(times, lce_best, 'shared'):.2f}; int8 / classic {ratio(times, 'int8, XNNPACK', 'classic'):.2f}, "
            f"/ shared {ratio(times, 'int8, XNNPACK', 'shared'):.2f}; "
            f"without copies int8 / classic {ratio(times, 'int8, no copies', 'classic, no copies'):.2f}, "
            f"/ shared {ratio(times, 'int8, no copies', 'shared, no copies'):.2f}"
        )
    record.write()


if __name__ == "__main__":
    main()
