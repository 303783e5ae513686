"""Showing what was checked without a daemon."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from cli import screen
from cli.session import EXIT_GOOD, EXIT_PROBLEM, EXIT_REFUSED

if TYPE_CHECKING:
    from hsm.offline import Report


def finish(report: Report, json: bool) -> None:
    """Print a report and end the command: 0 good, 1 problems found, 4 refused."""
    if json:
        screen.say_json({"ok": report.ok, **asdict(report)})
    else:
        for warning in report.warnings:
            screen.say(warning, style="yellow")
        for fact in report.facts if report.ok else ():
            screen.say(f"  {fact}")
        if report.ok:
            screen.say(f"good: {report.subject}", style="green")
        for error in report.errors:
            screen.err().print(error, style="red", soft_wrap=True)
    if report.refused:
        raise typer.Exit(EXIT_REFUSED)
    raise typer.Exit(EXIT_GOOD if report.ok else EXIT_PROBLEM)
