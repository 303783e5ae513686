"""``hsm policy simulate``: what policies would have done, side by side."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import moment, screen, text
from cli.screen import Json
from cli.session import EXIT_PROBLEM
from hsm.errors import HsmError

if TYPE_CHECKING:
    from hsm.whatif import Question, Report, Simulated


def simulate(
    policy: Annotated[
        list[Path] | None,
        typer.Option("--policy", help="A policy file, or a folder of them; repeat it to compare several."),
    ] = None,
    begin: Annotated[datetime | None, moment.option("--from", help="What is before is the stock.")] = None,
    end: Annotated[datetime | None, moment.option("--to", help="Without it, the end of the history.")] = None,
    scale: Annotated[str, typer.Option(help="How many times as many patients: 3x, 0.5x.")] = "1x",
    history: Annotated[
        Path | None, typer.Option(help="A history in a file instead of what the catalog recorded.")
    ] = None,
    synthetic: Annotated[
        float | None,
        typer.Option(min=0.1, max=100_000, help="A made-up hospital with so many studies a day."),
    ] = None,
    stock_years: Annotated[
        float, typer.Option(min=0, max=30, help="How long the made-up hospital has been archiving before.")
    ] = 3.0,
    seed: Annotated[int, typer.Option(help="Of the made-up hospital and of --scale.")] = 1,
    site: Annotated[Path | None, typer.Option(help="The hardware; without it, as configured.")] = None,
    prices: Annotated[Path | None, typer.Option(help="The price list; without it, an example.")] = None,
    current: Annotated[
        bool, typer.Option("--current/--no-current", help="Compare with the policies in force.")
    ] = True,
    plot: Annotated[
        Path | None, typer.Option(help="A folder for pictures: PNG, and one page of HTML.")
    ] = None,
    save_history: Annotated[
        Path | None, typer.Option(help="Also write the history to a file, as --history reads it.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Another configuration file.")] = None,
    json: Json = False,
) -> None:
    """What policies would have done with the history of the archive. Needs no daemon, changes nothing."""
    from hsm.whatif import Hospital, Question  # heavy: only for the commands that need it

    hospital = None
    if synthetic is not None:
        hospital = Hospital(studies_a_day=synthetic, stock_years=stock_years)
    question = Question(
        policies=tuple(policy or ()),
        begin=begin,
        end=end,
        scale=_factor(scale),
        seed=seed,
        history=history,
        hospital=hospital,
        site=site,
        prices=prices,
        current=current,
        save_history=save_history,
        config=config,
    )
    show(answer(question, plot, quiet=json), plot, json)


def answer(question: Question, plot: Path | None, *, quiet: bool) -> Simulated:
    """Simulate, with a line of progress; ends the command where that is not possible."""
    from hsm.whatif import WhatIfError, draw, require_plotting
    from hsm.whatif import simulate as run

    try:
        if plot is not None:
            require_plotting()
        if quiet:
            done = run(question, os.environ)
        else:
            with screen.err().status("reading the history ...") as status:
                done = run(
                    question,
                    os.environ,
                    lambda name, part: status.update(f"simulating {text.clean(name)}: {part:.0%}"),
                )
        if plot is not None:
            draw(done.reports, plot)
    except WhatIfError as error:
        for line in error.lines:
            screen.err().print(line, style="red", soft_wrap=True)
        raise typer.Exit(EXIT_PROBLEM) from error
    except (HsmError, OSError) as error:
        screen.complain(str(error))
        raise typer.Exit(EXIT_PROBLEM) from error
    return done


def show(done: Simulated, plot: Path | None, json: bool) -> None:
    """The comparison: as JSON, or as tables with what an admin must know below them."""
    if json:
        screen.say_json(
            {
                "history": done.history,
                "warnings": list(done.warnings),
                "policies": [report.to_json() for report in done.reports],
            }
        )
        return
    for warning in done.warnings:
        screen.say(warning, style="yellow")
    first = done.reports[0]
    screen.say(
        f"{first.begin[:10]} to {first.end[:10]}: {text.plural(first.arrivals, 'study', 'studies')} arrived"
        f" ({text.size(first.arrived_bytes)}), {first.retrieves} retrieves; {text.clean(done.history)}"
    )
    names = [text.clean(report.name) for report in done.reports]
    rows = [report.rows() for report in done.reports]
    screen.say_table(
        ["", *(f">{name}" for name in names)],
        [(label, *(each[number][1] for each in rows)) for number, (label, _) in enumerate(rows[0])],
    )
    screen.say("")
    screen.say_table(["cost", *(f">{name}" for name in names)], _bill(done.reports))
    for report in done.reports:
        for problem in report.problems:
            screen.say(f"{text.clean(report.name)}: {text.clean(problem)}", style="yellow")
        for refused, times in sorted(report.refused.items()):
            many = text.plural(times, "study is", "studies are")
            screen.say(
                f"{text.clean(report.name)}: {many} kept at the end: {text.clean(refused)}", style="dim"
            )
    if plot is not None:
        screen.say(f"pictures: {plot / 'simulation.html'} and the PNG files beside it")


def _bill(reports: tuple[Report, ...]) -> list[tuple[str, ...]]:
    lines: dict[str, list[Any]] = {}
    for number, report in enumerate(reports):
        for item in report.bill:
            lines.setdefault(item.what, [None] * len(reports))[number] = item
    rows = []
    for what, items in lines.items():
        if any(item is not None and item.price for item in items):
            cells = (
                "-" if item is None else f"{item.amount:,.0f} ({item.quantity:,.1f} {item.unit})"
                for item in items
            )
            rows.append((what, *cells))
    return [*rows, ("total", *(f"{report.cost:,.0f} {report.currency}" for report in reports))]


def _factor(words: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)x?", words.strip().lower())
    factor = float(match.group(1)) if match else 0.0
    if not 0 < factor <= 1000:
        raise typer.BadParameter(f"{words!r} is no scale: write 3x or 0.5x", param_hint="--scale")
    return factor
