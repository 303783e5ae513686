"""``hsm queue``: the archive's work."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cli import screen, text
from cli.screen import Json, Limit, Offset
from cli.session import connect

Record = dict[str, Any]
Number = Annotated[int, typer.Argument(help="The request's number.", min=1)]

app = typer.Typer(help="What the archive has to do, and what it could not do.", no_args_is_help=True)


@app.command()
def ls(
    context: typer.Context,
    kind: Annotated[str, typer.Option(help="seal, copy, verify, recall, release or deliver.")] = "",
    state: Annotated[str, typer.Option(help="queued, active, waiting, done, failed or cancelled.")] = "",
    study: Annotated[str, typer.Option(help="Only of this study (UID).")] = "",
    limit: Limit = 50,
    offset: Offset = 0,
    json: Json = False,
) -> None:
    """Requests in the order they are worked on; without --state, live and failed ones."""
    with connect(context) as client:
        rows = client.queue(kind=kind, state=state, study=study, limit=limit, offset=offset)
    if json:
        screen.say_json(rows)
        return
    screen.say_table(
        [">no", "kind", "state", "priority", "where", ">age", "what"],
        [_row(row) for row in rows],
        empty="nothing is queued",
    )


def _row(row: Record) -> tuple[object, ...]:
    place = "" if row["place"] == "mounted" else row["place"]
    where = " ".join(filter(None, (row["volume"], place))) or row["pool"] or ""
    waiting = text.plural(len(row["waiters"]), "waits", "wait") if row["waiters"] else ""
    return (
        row["id"],
        row["kind"],
        screen.state(row["state"]),
        row["priority"],
        screen.lines(where, Text(_turn(row["turn"]), style="dim")),
        text.age(row["created_at"], text.now()),
        screen.lines(
            text.short(row["package"] or row["study"] or row["reason"], 18),
            Text(text.clean(row["error"]), style="red"),
            Text(waiting, style="dim"),
        ),
    )


@app.command()
def show(context: typer.Context, number: Number, json: Json = False) -> None:
    """One request: what it is about, who waits for it, which volume it waits for; and its turn: which place
    it has on which drive, when, and what comes first and why."""
    with connect(context) as client:
        row = client.request(number)
    if json:
        screen.say_json(row)
        return
    times = ("created_at", "not_before", "started_at", "finished_at")
    plain = {key: text.local(value) if key in times else value for key, value in row.items()}
    plain["bytes"] = text.size(row["bytes"])
    plain["waiters"] = [f"{each['who']} since {text.local(each['since'])}" for each in row["waiters"]]
    plain["mounts"] = [_mount(each) for each in row["mounts"]]
    turn = plain.pop("turn")
    plain |= _turn_words(row["turn"]) if turn is not None else {}
    screen.say_record(plain)


def _turn_words(turn: Record) -> Record:
    """Which place it has, on which drive, when if nothing more urgent comes, and behind what."""
    words: Record = {"turn": turn["why"]}
    if turn["finishes_at"] is not None:
        words["turn_from"], words["turn_until"] = (
            text.local(turn["starts_at"]),
            text.local(turn["finishes_at"]),
        )
    return words | ({"comes_first": turn["ahead"]} if turn["ahead"] else {})


def _turn(turn: Record | None) -> str:
    """``3 on drive 256, 4 min``: its place in the drive's queue, and until it is done; empty without one."""
    if turn is None or turn["position"] is None:
        return ""
    place = "now" if turn["position"] == 0 else str(turn["position"])
    left = (text.parse_time(turn["finishes_at"]) - text.now()).total_seconds()
    until = text.span(max(0.0, left)).replace(" ", "\N{NO-BREAK SPACE}")
    return f"{place} on drive {turn['drive']}, {until}"


def _mount(mount: Record) -> str:
    since = f"{mount['state']} since {text.local(mount['created_at'])}"
    return f"{since} {mount['answered_by']} {mount['comment']}".strip()


@app.command()
def cancel(context: typer.Context, number: Number) -> None:
    """Give up one request. Whoever waits for it is told."""
    with connect(context) as client:
        client.cancel(number)
    screen.say(f"request {number} is cancelled")


@app.command()
def retry(context: typer.Context, number: Number) -> None:
    """Queue a failed or cancelled request again."""
    with connect(context) as client:
        client.retry(number)
    screen.say(f"request {number} is queued again")
