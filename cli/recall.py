"""``hsm recall``: bring studies back to where they can be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect
from hsm.client import Client

Record = dict[str, Any]

POLL_SECONDS = 0.5
ENDED = ("done", "failed", "cancelled")


def recall(
    context: typer.Context,
    uids: Annotated[list[str], typer.Argument(help="UIDs of studies, series or instances.")],
    priority: Annotated[str, typer.Option(help="stat, routine, prefetch or bulk.")] = "routine",
    prefetch: Annotated[
        bool,
        typer.Option("--prefetch", help="It will be read later: as --priority prefetch, and nobody waits."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until everything can be read.")] = False,
    json: Json = False,
) -> None:
    """Ask for studies that are on tape or a shelf.

    The recall goes on in the daemon whether or not this command waits for it.
    """
    if prefetch and wait:
        raise typer.BadParameter("--prefetch asks for what is read later: it does not wait")
    with connect(context) as client:
        asked = client.recall(uids, "prefetch" if prefetch else priority)
        requests = sorted({pk for each in asked for pk in each["requests"]})
        ended = _wait(client, requests, quiet=json) if wait else []
    if json:
        screen.say_json({"asked": asked, "ended": ended} if wait else asked)
    else:
        _say(asked, ended)
    raise typer.Exit(EXIT_GOOD if all(each["state"] == "done" for each in ended) else EXIT_PROBLEM)


def _say(asked: list[Record], ended: list[Record]) -> None:
    done = {each["id"] for each in ended if each["state"] == "done"}
    for each in asked:
        total, here = each["packages"], each["readable_now"]
        if here == total or (done.issuperset(each["requests"]) and not each.get("too_large")):
            screen.say(f"{each['uid']}: everything can be read now")
            continue
        numbers = ", ".join(map(str, each["requests"]))
        eta = f" ({text.clean(each['eta'])})" if each.get("eta") else ""
        recalls = f"; recall {numbers}{eta}" if numbers else ""
        screen.say(f"{each['uid']}: {here} of {text.plural(total, 'package')} can be read now{recalls}")
        for key in each.get("too_large", ()):
            screen.say(
                f"{key} is larger than the staging area and is not kept there: it is read when somebody "
                "retrieves it, and passes through"
            )
    for each in ended:
        if each["state"] != "done":
            screen.complain(f"recall {each['id']} {each['state']}: {text.clean(each['error'])}".rstrip(": "))
    if not ended and any(each["requests"] for each in asked):
        screen.say("watch it with `hsm queue ls --kind recall`, or add --wait", style="dim")


def follow(
    client: Client, requests: list[int], sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[Record]]:
    """How far the recalls are, again and again until all have ended."""
    while requests:
        shown = client.progress(requests)
        yield shown
        if all(each["state"] in ENDED for each in shown):
            return
        sleep(POLL_SECONDS)


def _wait(client: Client, requests: list[int], *, quiet: bool) -> list[Record]:
    console = screen.err()
    last: list[Record] = []
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        known: dict[int, str] = {}
        for last in follow(client, requests):
            for each in last:
                said = _plain(each)
                if not quiet and known.get(each["id"]) != said:
                    screen.say(said)
                known[each["id"]] = said
        return last
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[int, TaskID] = {}
        for last in follow(client, requests):
            for each in last:
                if each["id"] not in tasks:
                    tasks[each["id"]] = bar.add_task("")
                bar.update(
                    tasks[each["id"]],
                    description=_described(each),
                    total=each["bytes"],
                    completed=each["bytes_done"],
                )
    return last


def _described(each: Record) -> str:
    why = text.clean(each.get("eta") or "") if each["state"] not in ENDED else ""
    waits = " (see `hsm operator ls`)" if each["state"] == "waiting" else ""
    return f"recall {each['id']} {each['state']}{': ' + why if why else ''}{waits}"


def _plain(each: Record) -> str:
    """A line for a file or a pipe: without the figure that changes all the time."""
    why = text.clean(each.get("eta") or "").rpartition(", ")[0] if each["state"] not in ENDED else ""
    return f"recall {each['id']} is {each['state']}{': ' + why if why else ''}"
