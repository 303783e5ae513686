"""A cartridge read as docs/operations.md tells a person to: the commands are taken from the page itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md"
HEADING = "### Reading a plain cartridge by hand"
SECONDS = 300


def _commands() -> tuple[str, str]:
    """The page's two blocks: the label and the index; one package."""
    section = PAGE.read_text().split(HEADING, 1)[1].split("\n#", 1)[0]
    first, second = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return first, second


def _shell(commands: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", commands],
        cwd=folder,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said + done.stderr.decode(errors="replace")
    return said


def label_and_index(folder: Path) -> tuple[str, list[int]]:
    """Of the cartridge in the first drive: what its label says, and the tape files that the index lists."""
    said = _shell(_commands()[0], folder)
    return said, [
        int(number) for number in re.findall(r'"file": (\d+), "block"', (folder / "index").read_text())
    ]


def package(folder: Path, number: int) -> str:
    """Check and unpack the package in that tape file into ``folder``; what the commands said."""
    commands = _commands()[1]
    assert commands.startswith("N=7\n")
    return _shell(commands.replace("N=7\n", f"N={number}\n", 1), folder)
