"""``hsm policy plan``: what tonight would do and what it takes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_PROBLEM, connect

Record = dict[str, Any]

DAYS_MAX = 3650


def plan(
    context: typer.Context,
    hours: Annotated[float, typer.Option(min=0.1, max=744.0, help="How far to look ahead.")] = 24.0,
    json: Json = False,
) -> None:
    """What the policies would do until tomorrow, and what it takes; changes nothing.

    Exits with 1 when there is something to put right beforehand.
    """
    with connect(context) as client:
        found = client.plan(hours)
    if json:
        screen.say_json(found)
    else:
        _say(found)
    raise typer.Exit(EXIT_PROBLEM if found["warnings"] else 0)


def _say(found: Record) -> None:
    screen.say(f"from {text.local(found['at'])} to {text.local(found['until'])}", style="bold")
    rows = [
        (
            policy["policy"],
            rule["rule"],
            rule["does"],
            rule["studies"],
            text.size(rule["bytes"]),
            rule["refused"],
        )
        for policy in found["policies"]
        for rule in policy["rules"]
    ]
    screen.say_table(
        ["policy", "rule", "does", ">studies", ">bytes", ">refused"], rows, empty="no policy is in force"
    )
    for policy in found["policies"]:
        if not policy["runs"]:
            screen.say(f"{text.clean(policy['policy'])} does not run in this time")
        for rule in policy["rules"]:
            for why in rule["why_refused"]:
                screen.say(f"{text.clean(rule['rule'])} refused: {text.clean(why)}", style="dim")
    screen.say("")
    screen.say_table(
        ["pool", ">used", ">capacity", ">comes", ">goes", ">full in days"],
        [
            (
                pool["pool"],
                text.size(pool["used"]),
                text.size(pool["capacity"]),
                text.size(pool["comes"]),
                text.size(pool["goes"]),
                _days(pool["days_until_full"]),
            )
            for pool in found["pools"]
        ],
    )
    screen.say("")
    screen.say_table(
        ["pool", ">bytes", ">mounts", ">hours", ">blank needed", ">scratch left", "onto"],
        [
            (
                tape["pool"],
                text.size(tape["bytes"]),
                tape["mounts"],
                f"{tape['hours']:g}",
                tape["cartridges"],
                tape["scratch_left"],
                ", ".join(f"{name} {text.size(size)}" for name, size in tape["volumes"].items()) or "-",
            )
            for tape in found["tapes"]
        ],
    )
    for where, needed in found["hours"].items():
        screen.say(f"{text.clean(where)}: {needed:g} h of work")
    for warning in found["warnings"]:
        screen.say(f"warning: {text.clean(warning)}", style="yellow")


def _days(days: float | None) -> str:
    """More than ten years is no forecast."""
    if days is None:
        return "-"
    return f"{days:g}" if days <= DAYS_MAX else f"> {DAYS_MAX}"
