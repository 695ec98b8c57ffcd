"""What all commands share: one-line errors, progress on stderr, the result alone on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click


class Command(click.Command):
    """A command whose errors are one line on stderr and exit code 1, unless `--debug` asks for more."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        debug = click.Option(["--debug"], is_flag=True, help="Show warnings and traces of errors.")
        self.params.append(debug)

    def invoke(self, ctx: click.Context):
        if ctx.params.pop("debug"):
            return super().invoke(ctx)
        try:
            with _quiet():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except ModuleNotFoundError as error:
            hint = ""
            if error.name == "tensorflow":
                hint = " Install it with pip install '.[tensorflow]' in a checkout of larq_sks."
            raise click.ClickException(_one_line(error) + hint) from error
        except (ValueError, OSError, ImportError) as error:
            raise click.ClickException(_one_line(error)) from error
        except Exception as error:
            raise click.ClickException(
                f"{type(error).__name__}: {_one_line(error)} This should not happen; run again with "
                "--debug to see where it did."
            ) from error


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leaves only errors of what TensorFlow, Keras and Larq say about themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def working(text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows on a terminal's stderr that something is going on; yields what moves the bar on."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    # stdout is for the result alone, whatever a library prints meanwhile.
    with contextlib.redirect_stdout(sys.stderr), bar:
        task = bar.add_task(text, total=total)
        yield lambda count: bar.advance(task, count)


def _one_line(error: Exception) -> str:
    return "; ".join(" ".join(line.split()) for line in str(error).splitlines() if line.strip())


def kib(path: Path) -> str:
    """Says how large a file is."""
    return f"{path.stat().st_size / 1024:,.1f} KiB"


def print_json(figures: dict) -> None:
    """Prints figures as JSON, paths as strings."""
    click.echo(json.dumps(figures, indent=2, default=str))


def check_target(path: Path, endings: tuple[str, ...], force: bool, parameter: str) -> None:
    """Refuses a file that cannot be written before the work is done."""
    if path.suffix not in endings:
        raise click.BadParameter(
            f"'{path}' must end in {', '.join(endings)}.", param_hint=f"'{parameter}'"
        )
    if not path.parent.is_dir():
        raise click.ClickException(
            f"There is no folder '{path.parent}' to write to. Make it first."
        )
    if path.is_dir():
        raise click.ClickException(f"'{path}' is a folder. Give another name.")
    if path.exists() and not force:
        raise click.ClickException(
            f"'{path}' exists already. Give another name, or --force to replace it."
        )
