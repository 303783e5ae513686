"""A terminal emulator's screen as a PNG."""

from __future__ import annotations

from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

FONTS = Path("/usr/share/fonts/truetype/dejavu")
SIZE = 15
BACKGROUND, FOREGROUND = "#101418", "#d8dee4"
COLOURS = {
    "black": "#101418", "red": "#c8322b", "green": "#5fb55f", "brown": "#c9a227", "blue": "#4f86d9",
    "magenta": "#b060b0", "cyan": "#4fb3bf", "white": "#d8dee4", "brightwhite": "#ffffff",
}  # fmt: skip


def save(screen: pyte.Screen, path: Path) -> None:
    """Draw every cell in a fixed-width font."""
    plain = ImageFont.truetype(str(FONTS / "DejaVuSansMono.ttf"), SIZE)
    bold = ImageFont.truetype(str(FONTS / "DejaVuSansMono-Bold.ttf"), SIZE)
    wide = round(plain.getlength("M"))
    high = SIZE + 4
    image = Image.new("RGB", (screen.columns * wide + 16, screen.lines * high + 16), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            front = _colour(cell.fg, FOREGROUND)
            back = _colour(cell.bg, BACKGROUND)
            if cell.reverse:
                front, back = back, front
            left, top = 8 + column * wide, 8 + row * high
            if back != BACKGROUND:
                draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=back)
            _cell(draw, cell.data, (left, top), (wide, high), front, bold if cell.bold else plain)
            if cell.underscore:
                draw.line((left, top + high - 2, left + wide - 1, top + high - 2), fill=front)
    image.quantize(64).save(path, optimize=True)


def _cell(
    draw: ImageDraw.ImageDraw,
    data: str,
    at: tuple[int, int],
    size: tuple[int, int],
    front: str,
    font: ImageFont.FreeTypeFont,
) -> None:
    """A character; blocks fill their cell, as terminals draw them."""
    left, top = at
    wide, high = size
    half = top + high // 2
    boxes = {"█": (top, top + high - 1), "▀": (top, half - 1), "▄": (half, top + high - 1)}
    if data in boxes:
        upper, lower = boxes[data]
        draw.rectangle((left, upper, left + wide - 1, lower), fill=front)
    elif data.strip():
        draw.text((left, top), data, font=font, fill=front)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return COLOURS.get(name, f"#{name}" if len(name) == 6 else default)
