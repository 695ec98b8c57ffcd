"""The command line, `larq-sks`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="larq-sks")
def main() -> None:
    """Sub-bit binary networks for Larq."""


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="larq-sks-demo",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=3),
    help="Length of each of the three training runs (10 if not given); an epoch is 55 batches of 128 "
    "images.",
)
@click.option("--quick", is_flag=True, help="3 short epochs, to see that everything works.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed."
)
def demo(output: Path, epochs: int | None, quick: bool, seed: int) -> None:
    """Trains a small binary network on real images with 1 bit a weight and with 0.56."""
    if quick and epochs:
        raise click.UsageError("--quick has its own --epochs: give one of the two.")
    # Only warnings of TensorFlow's: its notes on the machine would bury the results.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Imported here, because TensorFlow takes seconds and `--help` should not.
    from larq_sks_zoo.demo import run

    run(output, epochs=3 if quick else epochs or 10, steps=5 if quick else 55, seed=seed)
