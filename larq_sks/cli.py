"""The command line, `larq-sks`."""

from __future__ import annotations

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
    default=10,
    show_default=True,
    help="Length of each of the three training runs; an epoch is 55 batches of 128 images.",
)
@click.option("--quick", is_flag=True, help="3 short epochs, to see that everything works.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed.")
def demo(output: Path, epochs: int, quick: bool, seed: int) -> None:
    """Trains a small binary network on real images with 1 bit a weight and with 0.56."""
    # Imported here, because TensorFlow takes seconds and `--help` should not.
    from larq_sks_zoo.demo import run

    run(output, epochs=3 if quick else epochs, steps=5 if quick else 55, seed=seed)
