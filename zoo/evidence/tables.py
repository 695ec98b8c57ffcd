"""Rebuilds the tables and the figure of zoo/results from the records of runs and the model cards.

    python zoo/evidence/tables.py

Reads each .csv of zoo/results that has the columns of `Run`, and the cards of the pretrained networks. Writes
accuracy.svg there, and the tables into README.md between two marks; what stands around them stays.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from larq_sks._files import write_atomically

ZOO = Path(__file__).parents[1]
FIXED = (
    "random", "frequent", "coverage-hamming", "coverage-latent", "coverage", "exchanged", "pairs", "shared",
)  # fmt: skip
"""The selections that do not learn: the baselines."""
BEGIN, END = "<!-- tables: made by zoo/evidence/tables.py -->", "<!-- end of tables -->"


class Run(NamedTuple):
    """One line of a record: those of its columns that the tables need."""

    network: str
    road: str
    codewords: int
    epochs: int
    seed: int
    selection: str
    after: float
    changed: float | None
    """Number of codewords that training moved; `None` if not recorded."""


class Mean(NamedTuple):
    """A mean over seeds."""

    value: float
    error: float | None
    """Its standard error; `None` with a single seed."""
    seeds: int


def read(path: Path) -> list[Run] | None:
    """Reads a record of runs, or returns `None` if the file is something else.

    A selection that ran with several settings counts as several, each named with its settings.

    Raises:
        ValueError: If two lines are the same run.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {*Run._fields, "settings"} <= set(reader.fieldnames or ()):
            return None
        lines = list(reader)
    settings: dict[str, set[str]] = {}
    for line in lines:
        settings.setdefault(line["selection"], set()).add(line["settings"])
    runs: dict[tuple, Run] = {}
    for number, line in enumerate(lines, start=2):
        name = line["selection"]
        if len(settings[name]) > 1 and line["settings"]:
            name += f" ({line['settings']})"
        run = Run(
            line["network"],
            line["road"],
            # A network of 1 bit has the whole codebook.
            int(line["codewords"] or 512),
            int(line["epochs"]),
            int(line["seed"]),
            name,
            float(line["after"]),
            float(line["changed"]) if line["changed"] else None,
        )
        if runs.setdefault(run[:6], run) is not run:
            raise ValueError(
                f"'{path}' must hold each run once. Received: line {number} is the run of a line before."
            )
    return list(runs.values())


def mean(values: Iterable[float]) -> Mean:
    """Computes a mean and its standard error, s / √n with n - 1 degrees of freedom."""
    values = list(values)
    center = sum(values) / len(values)
    if len(values) == 1:
        return Mean(center, None, 1)
    variance = sum((value - center) ** 2 for value in values) / (len(values) - 1)
    return Mean(center, math.sqrt(variance / len(values)), len(values))


def best_fixed(runs: Sequence[Run]) -> str | None:
    """Finds the fixed selection with the best mean: among those with three seeds, or else with the most.

    Arguments:
        runs: Those of one network, road, number of codewords and number of epochs.

    Returns:
        Its name, or `None` if no fixed selection ran.
    """
    means = {name: mean(_after(runs, name).values()) for name in _names(runs) if name in FIXED}
    return max(means, key=lambda name: (min(means[name].seeds, 3), means[name].value), default=None)


def difference(runs: Sequence[Run], name: str, baseline: str) -> Mean | None:
    """Computes the mean difference of two selections, seed by seed.

    Arguments:
        runs: Those of one network, road, number of codewords and number of epochs.
        name: A selection.
        baseline: What it is compared with.

    Returns:
        The mean over the seeds that both have, or `None` if there are none.
    """
    ours, theirs = _after(runs, name), _after(runs, baseline)
    both = sorted(ours.keys() & theirs.keys())
    return mean(ours[seed] - theirs[seed] for seed in both) if both else None


def tables(runs: Sequence[Run]) -> str:
    """Writes the accuracies and the differences from the best fixed selection as markdown."""
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.network, run.road, run.epochs), []).append(run)
    parts = []
    for (network, road, epochs), group in sorted(groups.items()):
        counts = sorted({run.codewords for run in group})
        parts += [
            f"### {network}, {road}, {epochs} epoch{'s' if epochs > 1 else ''}",
            "Accuracy in percent, mean ± standard error (seeds):",
            _table(group, counts, _names(group), _accuracy),
        ]
        others = [name for name in _names(group) if name not in FIXED and name != "1-bit"]
        small = [count for count in counts if count < 512]
        if others and small:
            parts += [
                "Points above the best fixed selection of the column, seed by seed; bold where that is more "
                "than the standard error, with 3 seeds or more:",
                _table(group, small, others, _gain),
            ]
    return "\n\n".join(parts)


def _names(runs: Sequence[Run]) -> list[str]:
    """Lists the selections: 1 bit, the fixed ones, then the others by name."""
    names = {run.selection for run in runs}
    first = [name for name in ("1-bit", *FIXED) if name in names]
    return first + sorted(names - set(first))


def _after(runs: Sequence[Run], name: str) -> dict[int, float]:
    return {run.seed: run.after for run in runs if run.selection == name}


def _table(
    runs: Sequence[Run],
    counts: Sequence[int],
    names: Sequence[str],
    cell: Callable[[list[Run], str], str],
) -> str:
    columns = {count: [run for run in runs if run.codewords == count] for count in counts}
    titles = ["1 bit" if count == 512 else f"n = {count}" for count in counts]
    lines = [f"| selection | {' | '.join(titles)} |", f"| --- |{' --- |' * len(counts)}"]
    for name in names:
        cells = [cell(column, name) for column in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _accuracy(column: list[Run], name: str) -> str:
    values = _after(column, name).values()
    return _written(mean(values), "") if values else ""


def _gain(column: list[Run], name: str) -> str:
    baseline = best_fixed(column)
    gain = None if baseline is None else difference(column, name, baseline)
    if gain is None:
        return ""
    text = f"{_written(gain, '+')} against {baseline}"
    moved = [run.changed for run in column if run.selection == name and run.changed is not None]
    if moved:
        text += f", {mean(moved).value:.1f} moved"
    clear = gain.error is not None and gain.seeds >= 3 and gain.value > gain.error
    return f"**{text}**" if clear else text


def _written(figure: Mean, sign: str) -> str:
    error = "" if figure.error is None else f" ± {figure.error:.2f}"
    return f"{figure.value:{sign}.2f}{error} ({figure.seeds})"


def draw(cards: Sequence[dict], path: Path) -> None:
    """Draws the accuracy of the pretrained networks against the bits of a binary weight."""
    import matplotlib
    from matplotlib.figure import Figure

    from larq_sks import plot
    from larq_sks._picture_files import picture_bytes

    points: dict[str, list[tuple[float, float]]] = {}
    for card in sorted(cards, key=lambda card: (card["network"], card["dataset"])):
        label = f"{card['network']}, {card['dataset']}"
        points.setdefault(label, []).append((card["bits_a_weight"], card["accuracy"]))
    figure = Figure(figsize=(6, 4), layout="constrained")
    plot.accuracy(points, figure.subplots())
    # As text, which a page can search.
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        write_atomically(path, picture_bytes(figure, "svg"))


def insert(page: str, text: str) -> str:
    """Puts a text between the marks of a page, or at its end if it has none."""
    before, begin, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if begin else "\n"
    return f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n\n{END}{after}".lstrip()


@click.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=ZOO / "results",
    help="Where the records are.",
)
@click.option(
    "--cards",
    type=click.Path(file_okay=False, path_type=Path),
    default=ZOO / "larq_sks_zoo" / "data" / "pretrained",
    help="Where the model cards are.",
)
def main(folder: Path, cards: Path) -> None:
    """Rebuilds README.md and accuracy.svg of a folder of records."""
    parts = []
    for path in sorted(folder.glob("*.csv")):
        runs = read(path)
        if runs:
            parts.append(f"## {path.name}\n\n{tables(runs)}")
        click.echo(f"{path}: {'no record of runs' if runs is None else f'{len(runs)} runs'}")
    found = [json.loads(path.read_text("utf-8")) for path in sorted(cards.glob("*.json"))]
    click.echo(f"{cards}: {len(found)} cards")
    if found:
        draw(found, folder / "accuracy.svg")
        parts.append("## Pretrained networks\n\n![Accuracy against bits a weight](accuracy.svg)")
    page = folder / "README.md"
    old = page.read_text("utf-8") if page.exists() else "# Results\n"
    write_atomically(page, insert(old, "\n\n".join(parts)).encode())


if __name__ == "__main__":
    main()
