"""`larq-sks plot`: the pictures of a network."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from larq_sks_cli.console import Command, check_target, print_json, working

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.axes import Axes


@click.command(cls=Command)
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["png", "svg"]),
    default="png",
    show_default=True,
    help="Kind of the pictures.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def plot(source: Path, folder: Path, kind: str, force: bool, as_json: bool) -> None:
    """Draws what FILE takes and which sign patterns it uses, as pictures in FOLDER.

    sizes: what each layer takes. ranks: how unequally all binary kernels use the sign patterns.
    use: the same for the kernels that have chosen codewords. codewords_NUMBER_NAME: those of each kernel.
    FOLDER is made if it does not exist.
    """
    with working("Importing"):
        importlib.import_module("larq_sks.plot")  # says what to install if it is not there
        import matplotlib

        # Draws to files, whether or not there is a screen.
        matplotlib.use("agg")
        from larq_sks._files import write_atomically
        from larq_sks._picture_files import drawn
        from larq_sks_cli.files import read_model
    with working(f"Reading {source}"):
        pictures, left_out = of_model(read_model(source))
    if folder.exists() and not folder.is_dir():
        raise click.ClickException(f"'{folder}' is a file. Give another name.")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.{kind}" for name in pictures}
    for path in paths.values():
        check_target(path, (f".{kind}",), force, "FOLDER")
    with working("Drawing", len(paths)) as advance:
        for name, path in paths.items():
            write_atomically(path, drawn(pictures[name], kind))
            advance(1)
    if as_json:
        print_json({"path": source, "pictures": list(paths.values()), "left_out": left_out})
    else:
        reasons = [f"no {name}: {reason}" for name, reason in left_out.items()]
        click.echo("\n".join([*map(str, paths.values()), *reasons]))


def of_model(model: tf.keras.Model) -> tuple[dict[str, Callable[[], Axes]], dict[str, str]]:
    """Tells which pictures of a model there are.

    Returns:
        For each picture's name what draws it, and the names of those that are left out with the reason.
    """
    from larq_sks import analysis, codewords, models
    from larq_sks import plot as draw
    from larq_sks._pictured import chosen_codewords
    from larq_sks.layers import sparse_kernels

    figures = models.summary(model, print_fn=lambda line: None)
    pictures: dict[str, Callable[[], Axes]] = {"sizes": partial(draw.sizes, figures)}
    left_out = {}
    try:
        pictures["ranks"] = partial(draw.ranks, analysis.analyze(model))
    except (ValueError, ImportError) as error:  # no binary kernel; no package powerlaw
        left_out["ranks"] = str(error)
    chosen = chosen_codewords(codewords(model)) if sparse_kernels(model) else {}
    if chosen:
        pictures["use"] = partial(draw.use, chosen)
    else:
        left_out["codewords"] = (
            "no kernel has chosen codewords: `larq-sks sparsify` lets them choose."
        )
    for number, (name, kernel) in enumerate(chosen.items(), start=1):
        # Numbers keep the order, and names apart that differ in other signs alone.
        part = re.sub(r"[^\w.-]", "_", name)
        pictures[f"codewords_{number:02}_{part}"] = partial(draw.tiles, kernel)
    return pictures, left_out
