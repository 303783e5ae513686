"""Showing what was checked without a daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cli import screen
from cli.session import EXIT_GOOD, EXIT_PROBLEM, EXIT_REFUSED

if TYPE_CHECKING:
    from hsm.offline import Report


SAID_SECONDS = 1.0


def teller() -> Callable[[str], None]:
    """Says how far something is, on the standard error and not more than once a second."""
    said = 0.0

    def tell(sentence: str) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= SAID_SECONDS:
            said = now
            screen.err().print(sentence, style="dim", soft_wrap=True)

    return tell


def finish(report: Report, json: bool) -> None:
    """Print a report and end the command: 0 good, 1 problems found, 4 refused."""
    if json:
        screen.say_json({"ok": report.ok, **asdict(report)})
    else:
        for warning in report.warnings:
            screen.say(warning, style="yellow")
        for fact in report.facts if report.ok or report.detail else ():
            screen.say(f"  {fact}")
        if report.ok:
            screen.say(f"good: {report.subject}", style="green")
        for error in report.errors:
            screen.err().print(error, style="red", soft_wrap=True)
    if report.refused:
        raise typer.Exit(EXIT_REFUSED)
    raise typer.Exit(EXIT_GOOD if report.ok else EXIT_PROBLEM)
