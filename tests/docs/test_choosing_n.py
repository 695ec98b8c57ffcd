"""The table of networks in the guide is that of their cards."""

import re

import pages
import pytest

import larq_sks_zoo as zoo

ROW = re.compile(
    r"\| (\w+) \| (1 bit|\d+) \| [\d.]+ \| ([\d.]+) \| ([\d.]*) ?\| ([\d,]+) \| ([\d.]+) M \|"
)
ROWS = ROW.findall((pages.ROOT / "docs/guides/choosing-n.md").read_text("utf-8"))
CARDS = {(card.network, card.num_codewords): card for card in zoo.pretrained.cards()}


def test_there_are_rows():
    assert len(ROWS) >= 6


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_what_the_card_says(row):
    network, codewords, accuracy, below, size, operations = row
    number = None if codewords == "1 bit" else int(codewords)
    card, one_bit = CARDS[network, number], CARDS[network, None]
    assert float(accuracy) == card.accuracy
    assert below == ("" if number is None else f"{one_bit.accuracy - card.accuracy:.2f}")
    # The page gives the size of a file without latent weights.
    assert card.latent or int(size.replace(",", "")) == card.bytes
    assert operations == f"{card.binary_operations / 1e6:.1f}"
