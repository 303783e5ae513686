"""``hsm operator``: what the archive asks of a person, and the answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cli import screen, text
from cli.screen import Json, Limit
from cli.session import connect

Record = dict[str, Any]
Barcode = Annotated[str, typer.Argument(help="The volume's barcode.")]

app = typer.Typer(help="Volumes that a person must load.", no_args_is_help=True)


@app.command()
def ls(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Answered ones too, the newest first.")] = False,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """What is asked for, in the order to do it: who waits, since when, where the volume stands."""
    with connect(context) as client:
        mounts = client.mounts(every=all_, limit=limit)
    if json:
        screen.say_json(mounts)
        return
    screen.say_table(COLUMNS, map(mount_row, mounts), empty="nothing is asked for")
    if any(mount["state"] == "open" for mount in mounts):
        screen.say("load it, then: hsm operator done BARCODE", style="dim")


COLUMNS = ["volume", "now at", "load into", ">waits", ">size", "for"]


def mount_row(mount: Record) -> tuple[object, ...]:
    """One row of the list, also of ``hsm operator watch``."""
    waiters = [text.clean(waiter["who"]) for waiter in mount["waiters"]]
    others = f"and {len(waiters) - 2} more" if len(waiters) > 3 else ""
    shown = waiters if not others else waiters[:2]
    answer = (
        f"{mount['state']} by {mount['answered_by']} {mount['comment']}".strip()
        if mount["answered_at"]
        else ""
    )
    return (
        Text(text.clean(mount["barcode"]), style="bold"),
        mount["where"],
        mount["library"] or "-",
        text.span(mount["waiting_seconds"]),
        text.size(mount["bytes"]),
        screen.lines(*shown, others, Text(text.clean(answer), style="dim"))
        or text.plural(mount["requests"], "request"),
    )


@app.command()
def watch(
    context: typer.Context,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
) -> None:
    """The list, kept fresh. Type (or scan) a barcode and Enter when the volume is loaded.

    `no BARCODE why` refuses. Ctrl-C ends.
    """
    from cli.watch import watch_mounts  # terminal handling: only for the command that needs it

    with connect(context) as client:
        watch_mounts(client, interval)


@app.command()
def done(
    context: typer.Context,
    barcode: Barcode,
    comment: Annotated[str, typer.Option(help="For the journal.")] = "",
    json: Json = False,
) -> None:
    """Say that a volume is loaded. It is believed when the changer sees it."""
    with connect(context) as client:
        answer = client.operator_done(barcode, comment)
    screen.say_json(answer) if json else screen.say(thanks(barcode, answer))


def thanks(barcode: str, answer: Record) -> str:
    """One sentence about an answer that was taken."""
    where = f" in {text.clean(answer['library'])}" if answer.get("library") else ""
    asked = "" if answer.get("answered", True) else " (nobody had asked for it)"
    return f"{barcode} is{where or ' loaded'}{asked}"


@app.command()
def refuse(
    context: typer.Context,
    barcode: Barcode,
    comment: Annotated[str, typer.Argument(help="Why it cannot be loaded.")],
    json: Json = False,
) -> None:
    """Say that a volume cannot be loaded: who waits gets another copy, or is told."""
    with connect(context) as client:
        answer = client.operator_refuse(barcode, comment)
    screen.say_json(answer) if json else screen.say(f"{barcode} is refused: {comment}")
