"""What `larq-sks zoo` shows: the pretrained networks and the architectures, with their recipes."""

from __future__ import annotations

from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

import larq_sks_zoo as zoo
from larq_sks_zoo import pretrained
from larq_sks_zoo.training import recipes

_WIDTH = 100


def listing() -> dict:
    """Lists the cards of the pretrained networks, and each architecture with its recipes."""
    architectures = [
        {
            "network": build.__name__,
            "about": str(build.__doc__).splitlines()[0],
            "recipes": [
                recipe.name for recipe in recipes.RECIPES if recipe.network == build.__name__
            ],
        }
        for build in zoo.NETWORKS
    ]
    return {
        "pretrained": [asdict(card) for card in pretrained.cards()],
        "architectures": architectures,
    }


def show() -> None:
    """Prints the pretrained networks as a table, and the architectures that have no weights."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH
    cards = pretrained.cards()
    table = _table("Pretrained", "network", "weights", "n", "accuracy", "bit a weight", "bytes")
    for column in ("bit operations", "float MACs"):
        table.add_column(column, justify="right")
    for card in cards:
        table.add_row(
            card.network,
            card.dataset,
            "-" if card.num_codewords is None else str(card.num_codewords),
            f"{card.accuracy:.2f} %",
            f"{card.bits_a_weight:.2f}",
            f"{card.bytes:,}",
            f"{card.binary_operations / 1e6:,.1f} M",
            f"{card.float_operations / 1e6:,.2f} M",
        )
    console.print(table)
    table = _table("Without weights", "network", "recipes")
    for entry in listing()["architectures"]:
        if entry["network"] not in {card.network for card in cards}:
            table.add_row(entry["network"], ", ".join(entry["recipes"]) or "none")
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    for column in columns:
        is_text = column in ("network", "weights", "recipes")
        table.add_column(column, justify="left" if is_text else "right")
    return table
