"""``hsm pool``: what the pools are, whether they can be used, and trying one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, EXIT_REFUSED, connect
from hsm.client import Unreachable

Record = dict[str, Any]
Name = Annotated[str, typer.Argument(help="The pool's name.")]
Stop = Annotated[bool, typer.Option("--stop", help="Give it up: what has moved stays moved.")]

app = typer.Typer(help="Pools: folders, shares, buckets and libraries.", no_args_is_help=True)


@app.command()
def ls(context: typer.Context, json: Json = False) -> None:
    """Pools in the order of the configuration. Ends with 1 when one cannot be used."""
    with connect(context) as client:
        rows = client.pools()
    if json:
        screen.say_json(rows)
    else:
        screen.say_table(
            ["pool", "tier", "kind", "on", ">volumes", ">free", "state"],
            [
                (
                    row["name"],
                    row["tier"],
                    row["kind"],
                    row["driver"] or f"library {row['library']}",
                    len(row["volumes"]) or "",
                    _free(row["volumes"]),
                    f"{row['state']}: {row['reason']}" if row["reason"] else row["state"],
                )
                for row in rows
            ],
            empty="no pools",
        )
    raise typer.Exit(EXIT_PROBLEM if any(row["reason"] for row in rows) else EXIT_GOOD)


@app.command()
def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """One pool and its volumes."""
    with connect(context) as client:
        row = client.pool(name)
    if json:
        screen.say_json(row)
        return
    on = row["driver"] or f"library {row['library']}"
    screen.say_record(
        {
            "pool": row["name"],
            "tier": row["tier"],
            "kind": row["kind"],
            "on": on,
            "layout": row["layout"],
            "site": row["site"],
            "state": row["state"],
            "reason": row["reason"],
        }
    )
    screen.say("")
    screen.say_table(
        ["volume", "state", ">used", ">free", "since", "reason"],
        [
            (
                each["name"],
                "draining" if each["draining"] else each["state"],
                text.size(each["used"]),
                "" if each["free"] is None else text.size(each["free"]),
                text.local(each["since"]) if each["reason"] else "",
                each["reason"],
            )
            for each in row["volumes"]
        ],
        empty="its volumes are in a library: see `hsm volume ls`",
    )
    for each in row["volumes"]:
        for notice in each["notices"]:
            said = f"{each['name']}: {notice['subject']}: {notice['message']}"
            screen.say(text.clean(said), style="" if notice["severity"] == "info" else "yellow")


@app.command()
def test(
    context: typer.Context,
    name: Name,
    volume: Annotated[str, typer.Option(help="Only this volume of the pool.")] = "",
    here: Annotated[bool, typer.Option(help="From this process, without asking the daemon.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="The configuration, where no daemon is asked.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Write a probe, read it back, time it and delete it; say what is wrong.

    Without a daemon it is done from here, with this user's rights and credentials. Ends with 1 when
    something is wrong.
    """
    rows = None if here else _from_daemon(context, name, volume)
    if rows is None:
        rows = _from_here(name, volume, config)
    if json:
        screen.say_json(rows)
    else:
        for row in rows:
            _say_test(row)
    raise typer.Exit(EXIT_GOOD if all(row["ok"] for row in rows) else EXIT_PROBLEM)


@app.command()
def drain(
    context: typer.Context,
    name: Name,
    volume: Annotated[str, typer.Argument(help="The volume of it that is to be emptied.")],
    stop: Stop = False,
    json: Json = False,
) -> None:
    """Empty one of a pool's volumes: the same as `hsm volume drain`."""
    with connect(context) as client:
        known = [each["name"] for each in client.pool(name)["volumes"]]
        if volume not in known:
            screen.complain(f"pool {name} has no volume {volume}", f"it has {', '.join(known) or 'none'}")
            raise typer.Exit(EXIT_REFUSED)
        done = client.stop_drain(volume) if stop else client.drain(volume)
    say_drain(done, json)


def say_drain(done: Record, json: bool) -> None:
    """What a drain that was begun has before it, or what came of giving it up."""
    if json:
        screen.say_json(done)
    elif "cancelled" in done:
        withdrawn = text.plural(done["cancelled"], "request is", "requests are")
        screen.say(f"{done['volume']} is drained no more; {withdrawn} withdrawn, what has moved stays moved")
    elif done["left"]:
        left = text.plural(done["left"], "package")
        screen.say(f"{done['volume']} is drained: {left} to go; `hsm pool show` tells how it goes on")
    else:
        screen.say(f"{done['volume']} is empty and retired: take it out of the configuration")


def _from_daemon(context: typer.Context, name: str, volume: str) -> list[Record] | None:
    try:
        with connect(context) as client:
            return client.test_pool(name, volume)
    except Unreachable:
        return None


def _from_here(name: str, volume: str, config: Path | None) -> list[Record]:
    from hsm.offline import test_pool  # the drivers are heavy: only where they are used

    report = test_pool(config, os.environ, name, volume)
    if isinstance(report, str):
        screen.complain(report, "")
        raise typer.Exit(EXIT_REFUSED)
    return report


def _say_test(row: Record) -> None:
    what = row["pool"] if row["volume"] == row["pool"] else f"{row['pool']}, volume {row['volume']}"
    screen.say(text.clean(what), style="bold")
    for step in row["steps"]:
        rate = f", {step['bytes_per_second'] / 1e6:.1f} MB/s" if "bytes_per_second" in step else ""
        free = f", {text.size(step['free'])} free" if "free" in step else ""
        screen.say(f"  {step['step']:10} {step['seconds']:.3f} s{rate}{free}")
    for problem in row["problems"]:
        screen.say(f"! {text.clean(problem)}", style="red")
    if row["ok"]:
        screen.say("good", style="green")


def _free(volumes: list[Record]) -> str:
    known = [each["free"] for each in volumes if each["free"] is not None]
    return text.size(sum(known)) if known else ""
