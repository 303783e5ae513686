"""Barcodes in letters that are read from an arm's length: five by five dots each."""

from __future__ import annotations

from collections.abc import Mapping

ROWS = 5
COLUMNS = 5
GAP = 1

_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}

_DRAWN = """
0 .###. #...# #.#.# #...# .###.
1 ..#.. .##.. ..#.. ..#.. .###.
2 ####. ....# .###. #.... #####
3 ####. ....# .###. ....# ####.
4 #..#. #..#. ##### ...#. ...#.
5 ##### #.... ####. ....# ####.
6 .###. #.... ####. #...# .###.
7 ##### ....# ...#. ..#.. ..#..
8 .###. #...# .###. #...# .###.
9 .###. #...# .#### ....# .###.
A .###. #...# ##### #...# #...#
B ####. #...# ####. #...# ####.
C .#### #.... #.... #.... .####
D ####. #...# #...# #...# ####.
E ##### #.... ####. #.... #####
F ##### #.... ####. #.... #....
G .#### #.... #..## #...# .####
H #...# #...# ##### #...# #...#
I ##### ..#.. ..#.. ..#.. #####
J ..### ...#. ...#. #..#. .##..
K #...# #..#. ###.. #..#. #...#
L #.... #.... #.... #.... #####
M #...# ##.## #.#.# #...# #...#
N #...# ##..# #.#.# #..## #...#
O .###. #...# #...# #...# .###.
P ####. #...# ####. #.... #....
Q .###. #...# #.#.# #..#. .##.#
R ####. #...# ####. #..#. #...#
S .#### #.... .###. ....# ####.
T ##### ..#.. ..#.. ..#.. ..#..
U #...# #...# #...# #...# .###.
V #...# #...# #...# .#.#. ..#..
W #...# #...# #.#.# ##.## #...#
X #...# .#.#. ..#.. .#.#. #...#
Y #...# .#.#. ..#.. ..#.. ..#..
Z ##### ...#. ..#.. .#... #####
- ..... ..... .###. ..... .....
_ ..... ..... ..... ..... #####
. ..... ..... ..... ..... ..#..
"""
"""The zero has a dot and the O has none: a barcode is often typed from the screen."""

FONT: Mapping[str, tuple[str, ...]] = {
    drawn[0]: tuple(drawn.split()[1:]) for drawn in _DRAWN.strip().splitlines()
}


def columns(barcode: str) -> int:
    """Columns that :func:`large` takes for it."""
    return max(0, len(barcode) * (COLUMNS + GAP) - GAP)


def rows(*, halves: bool) -> int:
    """Lines that :func:`large` takes."""
    return (ROWS + 1) // 2 if halves else ROWS


def large(barcode: str, *, halves: bool) -> list[str]:
    """``barcode`` in large letters, or an empty list when it has characters that no barcode has.

    :param halves: with half blocks (U+2580, U+2584), in three lines; else with ``#``, in five.
    """
    dots = [FONT.get(each.upper()) for each in barcode]
    known = [each for each in dots if each is not None]
    if not known or len(known) < len(dots):
        return []
    lines = [(" " * GAP).join(each[row] for each in known).replace(".", " ") for row in range(ROWS)]
    if not halves:
        return lines
    lines.append(" " * len(lines[0]))
    return [
        "".join(
            _HALVES[upper == "#", lower == "#"]
            for upper, lower in zip(lines[row], lines[row + 1], strict=True)
        )
        for row in range(0, ROWS + 1, 2)
    ]


def spaced(barcode: str) -> str:
    """``T00001L8`` as ``T 0 0 0 0 1 L 8``: clear on a screen without room."""
    return " ".join(barcode)
