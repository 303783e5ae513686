"""``hsm status``: one screen; ``hsm metrics``: the same for a monitoring system."""

from __future__ import annotations

import sys
from typing import Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect

Record = dict[str, Any]


def status(context: typer.Context, json: Json = False) -> None:
    """Pools, queue, prompts and policy runs on one screen.

    Ends with 1 when the daemon lists a problem.
    """
    with connect(context) as client:
        shown = client.status()
    if json:
        screen.say_json(shown)
    else:
        _say_daemon(shown["daemon"])
        _say_totals(shown["totals"])
        _say_trash(shown["trash"])
        if waiting := shown["approvals_waiting"]:
            screen.say(f"{text.plural(waiting, 'command')} for a second person: hsm approve ls", "")
        say_pools(shown["pools"])
        _say_work(shown)
    raise typer.Exit(EXIT_PROBLEM if shown["daemon"].get("problems") else EXIT_GOOD)


def health(context: typer.Context) -> None:
    """Exit with 0 while the daemon answers, whatever problems it knows of (for supervisors)."""
    with connect(context) as client:
        client.health()


def metrics(context: typer.Context) -> None:
    """The numbers of the archive as Prometheus text."""
    with connect(context) as client:
        sys.stdout.write(client.metrics())


def doors_of(listen: Record) -> str:
    """The DICOM listeners in words; by name where there are others than the usual two."""
    doors = listen.get("doors") or []
    if {door["name"] for door in doors} - {"dicom", "dicom-tls"}:
        named = (f"{door['address']}{' (TLS)' if door['tls'] else ''} ({door['name']})" for door in doors)
        return ", ".join(named)
    return (
        f"{listen['dicom']} and {listen['dicom_tls']} (TLS)" if listen.get("dicom_tls") else listen["dicom"]
    )


def _say_daemon(daemon: Record) -> None:
    listen = daemon.get("listen", {})
    parts = [f"hsm {daemon.get('version', '')}".strip()]
    if "dicom" in listen:
        parts.append(f"{listen.get('ae_title', '')} on {doors_of(listen)}".strip())
    if daemon.get("started_at"):
        parts.append(f"up {text.age(daemon['started_at'], text.now())}")
    if "pid" in daemon:
        parts.append(f"process {daemon['pid']}")
    screen.say(" · ".join(text.clean(part) for part in parts), style="bold")
    for problem in daemon.get("problems", ()):
        screen.say(f"! {text.clean(problem)}", style="red")


def _say_totals(totals: Record) -> None:
    held = [
        text.plural(totals["studies"], "study", "studies"),
        text.plural(totals["instances"], "instance"),
        text.size(totals["bytes"]),
        text.plural(totals["packages"], "package"),
    ]
    if totals["unsealed"]:
        held.append(f"{text.plural(totals['unsealed'], 'instance')} not sealed yet")
    screen.say(", ".join(held), "")


def _say_trash(trash: Record) -> None:
    parts = []
    if trash["in_trash"]:
        due = f" ({trash['due']} being released)" if trash["due"] else ""
        parts.append(f"{text.plural(trash['in_trash'], 'study', 'studies')} in the trash{due}")
    if trash["grown"]:
        parts.append(f"{trash['grown']} of them have got new instances since: `hsm study trash`")
    if trash["rejected_instances"]:
        parts.append(f"{text.plural(trash['rejected_instances'], 'instance')} rejected")
    if trash["awaited_rejections"]:
        parts.append(f"{text.plural(trash['awaited_rejections'], 'instance')} rejected and not here yet")
    if parts:
        screen.say(", ".join(parts), "")


def say_pools(pools: list[Record]) -> None:
    """What each pool holds."""
    screen.say_table(
        ["pool", "tier", "volumes", ">blank", ">used", ">of", "copies"],
        [
            (
                pool["name"],
                pool["tier"] or "not configured",
                text.counts(pool["volumes"]),
                pool.get("scratch", ""),
                text.size(pool["used"]),
                text.size(pool["capacity"]) if pool["capacity"] else "",
                text.counts(pool["copies"]) or "none",
            )
            for pool in pools
        ],
        empty="no pools",
    )


def _say_work(shown: Record) -> None:
    screen.say("")
    for drive in shown["daemon"].get("drives", ()):
        holds = text.clean(drive["barcode"] or "empty")
        holds += "" if drive.get("in_service", True) else " (out of service)"
        screen.say(f"drive     {text.clean(drive['library'])} {drive['drive']}: {holds}")
    waiting = [f"{row['requests']} {row['kind']} {row['state']}" for row in shown["queue"]]
    screen.say(f"queue     {', '.join(waiting) or 'empty'}")
    if shown["mounts_open"]:
        asked = text.plural(shown["mounts_open"], "volume is", "volumes are")
        screen.say(f"operator  {asked} asked for: see `hsm operator ls`", style="yellow")
    else:
        screen.say("operator  nothing is asked for")
    for run in shown["runs"]:
        ago = text.age(run["started_at"], text.now())
        screen.say(
            f"policy    {text.clean(run['policy'])}: {ago} ago, matched {run['matched']},"
            f" requested {run['requested']}, refused {run['refused']}"
        )
