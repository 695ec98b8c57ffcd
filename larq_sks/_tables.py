"""A model's figures as text in tables."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from larq_sks._figures import KernelSummary, Summary

_WIDTH = 100


def show(figures: Summary, print_fn: Callable[[str], object] | None) -> None:
    """Prints the figures of a model, to the terminal or to a function that takes lines."""
    file = None if print_fn is None else io.StringIO()
    # Names of layers may hold what rich would take for markup; in a notebook it would print to the page,
    # whatever the file.
    console = Console(file=file, force_jupyter=False, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    for table in (_sizes(figures), _operations(figures), _totals(figures)):
        console.print(table)
    if file is not None and print_fn is not None:
        for line in file.getvalue().splitlines():
            print_fn(line.rstrip())


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.add_column(columns[0], overflow="fold", vertical="bottom")
    for column in columns[1:]:
        # Where the width does not suffice, names are broken over lines and numbers are not.
        table.add_column(column, justify="right", no_wrap=True, overflow="fold", vertical="bottom")
    return table


def _sizes(figures: Summary) -> Table:
    table = _table(
        f"{figures.name}: size",
        "layer",
        "code-\nwords",
        "bit per\nweight",
        "kernel\nbit",
        "kernel\nKiB",
        "at 1 bit\nKiB",
        "ratio",
        "codebook\nbit",
        "other\nKiB",
    )
    for layer in figures.layers:
        other = _kib(layer.other_bits)
        for kernel in layer.kernels:
            cost, one = kernel.cost, kernel.at_one_bit
            cells = ["-"] * 4
            if kernel.codewords is not None:
                ratio = _ratio(one.bits, cost.bits)
                cells = [str(kernel.codewords), _kib(one.bits), ratio, f"{cost.codebook_bits:,}"]
            cells[1:1] = [f"{kernel.bits_per_weight:.3g}", f"{cost.bits:,.0f}", _kib(cost.bits)]
            table.add_row(kernel.name, *cells, other)
            other = ""  # the layer's, so once
    rest = [layer.other_bits for layer in figures.layers if not layer.kernels]
    if rest:
        table.add_row(f"layers without kernel: {len(rest)}", *[""] * 7, _kib(sum(rest)))
    return table


def _operations(figures: Summary) -> Table:
    table = _table(
        "Operations for one input",
        "layer",
        "output",
        "input\nbit",
        "bit-op-\nerations",
        "at\n1 bit",
        "ratio",
        "correl-\nations",
        "addi-\ntions",
        "other\nMACs",
    )
    for layer in figures.layers:
        output = "\n".join(map(_shape, layer.output_shapes)) or "-"
        for kernel in layer.kernels:
            bits = "float" if kernel.input_bits is None else str(kernel.input_bits)
            table.add_row(kernel.name, output, bits, *_operation_cells(kernel))
    table.add_section()
    table.add_row("all", "", "", *_operation_cells(figures))
    return table


def _operation_cells(figures: Summary | KernelSummary) -> list[str]:
    cost, one = figures.cost, figures.at_one_bit
    return [
        _count(cost.bit_operations),
        _count(one.bit_operations),
        _ratio(one.bit_operations, cost.bit_operations),
        _count(cost.correlations),
        _count(cost.additions),
        _count(figures.macs),
    ]


def _totals(figures: Summary) -> Table:
    table = _table("Totals", "", "KiB", "at 1 bit\nKiB", "ratio")
    cost, one = figures.cost, figures.at_one_bit
    for name, bits, at_one_bit in (
        ("binary kernels", cost.bits, one.bits),
        ("with their codebooks", cost.bits + cost.codebook_bits, one.bits),
        ("all other weights", figures.other_bits, figures.other_bits),
        ("whole model", figures.bits, figures.bits_at_one_bit),
    ):
        table.add_row(name, _kib(bits), _kib(at_one_bit), _ratio(at_one_bit, bits))
    table.add_section()
    table.add_row("binary kernels, entropy of their codewords", _kib(figures.entropy_bits), "", "")
    table.add_row(".sks file before compression, expected", _kib(figures.file_bytes * 8), "", "")
    table.add_row("all weights in 32 bit", _kib(figures.float32_bits), "", "")
    return table


def _shape(shape: tuple[int | None, ...]) -> str:
    """Writes a shape without the batch."""
    return "x".join("?" if size is None else str(size) for size in shape[1:])


def _kib(bits: float) -> str:
    return f"{bits / 8192:,.2f}"


def _ratio(at_one_bit: float | None, ours: float | None) -> str:
    return f"{at_one_bit / ours:.2f}" if at_one_bit and ours else "-"


def _count(number: float | None) -> str:
    if number is None:
        return "-"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.4g} {letter}"
    return f"{number:g}"
