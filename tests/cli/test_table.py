"""Tables at the terminal stand straight."""

import re

from minidalle.cli.table import text_table, width


def test_columns_stand_straight_with_wide_names():
    """Catches a width in characters where a Chinese one takes two columns, an accent none."""
    names = ["GAN", "masked codes (600 of 1800 steps)", "编码器", "e\u0301ncoder", "DALL·E"]
    rows = [[name, f"{i}.5", "0.97 [0.90, 1.00]"] for i, name in enumerate(names)]
    lines = text_table(["system", "a", "validation"], rows).split("\n")
    assert len(lines) == 6 and len({width(line) for line in lines}) == 1
    for line, row in zip(lines[1:], rows, strict=True):
        assert line.startswith(row[0] + " ") and line.endswith("  " + row[2])
        assert re.split(r" {2,}", line) == row
    assert lines[0].startswith("system  ") and lines[0].endswith("  validation")
    assert width(lines[2]) == len(names[1]) + 2 + 3 + 2 + len("0.97 [0.90, 1.00]")


def test_width_is_in_columns():
    assert [width(text) for text in ("", "abc", "编码", "e\u0301", "a\u200db", "é–·")] == [
        0, 3, 4, 1, 2, 3,
    ]  # fmt: skip


def test_a_header_wider_than_its_cells():
    assert text_table(["x", "pictures/s"], [["a", "1"]]) == "x  pictures/s\na           1"
