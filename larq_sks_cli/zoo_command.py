"""What `larq-sks zoo` shows: the pretrained networks and the architectures, with their recipes."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

import larq_sks_zoo as zoo
from larq_sks_zoo import pretrained
from larq_sks_zoo.training import recipes

_WIDTH = 100
_LATENT = "*"


def listing() -> dict:
    """Lists the cards of the pretrained networks, and all architectures."""
    return {
        "pretrained": [asdict(card) for card in pretrained.cards()],
        "architectures": _architectures(),
    }


def _architectures() -> list[dict]:
    """Lists each architecture with its figures and recipes."""
    figures = json.loads(pretrained.ARCHITECTURES.read_text("utf-8"))
    return [
        {
            "network": build.__name__,
            "about": str(build.__doc__).splitlines()[0],
            "at_1_bit": figures[build.__name__],
            "recipes": [
                recipe.name for recipe in recipes.RECIPES if recipe.network == build.__name__
            ],
        }
        for build in zoo.NETWORKS
    ]


def show() -> None:
    """Prints the pretrained networks as a table, and all architectures with their recipes."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    costs = ("bytes", "bit operations", "float MACs")
    table = _table("Pretrained", "network", "weights", "n", "accuracy", "bit a weight", *costs)
    for card in pretrained.cards():
        table.add_row(
            card.network,
            card.dataset,
            "-" if card.num_codewords is None else str(card.num_codewords),
            f"{card.accuracy:.2f} %",
            f"{card.bits_a_weight:.2f}",
            f"{card.bytes:,}{_LATENT if card.latent else ''}",
            *_operations(card.binary_operations, card.float_operations),
        )
    table.caption = f"{_LATENT} with the latent weights, in 16 bits, to train on from"
    table.caption_justify = "left"
    console.print(table)
    table = _table(
        "All networks, at 1 bit and with the other weights as float32", "network", *costs, "recipes"
    )
    for entry in _architectures():
        figures = entry["at_1_bit"]
        table.add_row(
            entry["network"],
            f"{figures['bytes']:,}",
            *_operations(figures["binary_operations"], figures["float_operations"]),
            ", ".join(entry["recipes"]) or "none",
        )
    console.print(table)


def _operations(binary: float, floats: float) -> tuple[str, str]:
    return f"{binary / 1e6:,.1f} M", f"{floats / 1e6:,.2f} M"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    for column in columns:
        is_text = column in ("network", "weights", "recipes")
        table.add_column(column, justify="left" if is_text else "right")
    return table
