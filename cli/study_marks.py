"""``hsm study hold|unhold|holds|tag|untag|retain|accesses``: what people say of a study, and who read it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from cli import moment, screen, text
from cli.screen import Json, Limit, Offset
from cli.session import connect

Uid = Annotated[str, typer.Argument(help="Study Instance UID.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the journal and for whoever asks later.")]
Tags = Annotated[list[str], typer.Argument(help="One tag or several.")]


def hold(context: typer.Context, uid: Uid, reason: Reason, json: Json = False) -> None:
    """Place a legal hold: no good copy of the study is released until it is lifted."""
    with connect(context) as client:
        done = client.hold(uid, reason)
    screen.say_json(done) if json else screen.say(f"study {text.clean(uid)} is under legal hold")


def unhold(context: typer.Context, uid: Uid, reason: Reason, json: Json = False) -> None:
    """Lift a legal hold: policies decide about the study again."""
    with connect(context) as client:
        done = client.unhold(uid, reason)
    screen.say_json(done) if json else screen.say(f"study {text.clean(uid)} is no longer under legal hold")


def holds(context: typer.Context, limit: Limit = 50, offset: Offset = 0, json: Json = False) -> None:
    """The studies under legal hold, the last placed first."""
    with connect(context) as client:
        found = client.holds(limit=limit, offset=offset)
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        ["study", "since", "by"],
        [
            (
                screen.lines(Text(each["study"]), Text(text.clean(each["reason"]), style="dim")),
                text.local(each["placed_at"]),
                text.clean(each["placed_by"]),
            )
            for each in found
        ],
        empty="no study is under legal hold",
    )


def tag(context: typer.Context, uid: Uid, tags: Tags, json: Json = False) -> None:
    """Give a study tags, for policies and people to find it by."""
    with connect(context) as client:
        _say_tags(uid, client.tag(uid, add=tags), json)


def untag(context: typer.Context, uid: Uid, tags: Tags, json: Json = False) -> None:
    """Take tags away from a study."""
    with connect(context) as client:
        _say_tags(uid, client.tag(uid, remove=tags), json)


def _say_tags(uid: str, done: dict[str, list[str]], json: bool) -> None:
    if json:
        screen.say_json(done)
        return
    tags = ", ".join(map(text.clean, done["tags"]))
    screen.say(f"study {text.clean(uid)}: {tags or 'no tags'}")


def retain(
    context: typer.Context,
    uid: Uid,
    reason: Reason,
    until: Annotated[
        datetime | None,
        moment.option_ahead("--until", help="The last day; without it the retention ends."),
    ] = None,
    json: Json = False,
) -> None:
    """Keep every good copy of a study up to a day, whatever policies say."""
    last = f"{until:%Y%m%d}" if until is not None else ""
    with connect(context) as client:
        done = client.retain(uid, last, reason)
    if json:
        screen.say_json(done)
        return
    kept = f"is retained until {text.day(last)}" if last else "is not retained any more"
    screen.say(f"study {text.clean(uid)} {kept}")


def accesses(context: typer.Context, uid: Uid, limit: Limit = 50, json: Json = False) -> None:
    """Who retrieved a study or found it in a query, the last first."""
    with connect(context) as client:
        found = client.accesses(uid, limit=limit)
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        ["when", "what", "by", "from", ">size", ">waited"],
        [
            (
                text.local(each["at"])[:10] if each["daily"] else text.local(each["at"]),
                each["kind"] if each["times"] == 1 else f"{each['kind']} ({each['times']} times)",
                text.clean(each["ae"]) or "-",
                each["tier"] or "-",
                text.size(each["bytes"]) if each["bytes"] else "-",
                f"{each['waited_seconds']:.1f} s" if each["kind"] == "retrieve" else "-",
            )
            for each in found
        ],
        empty="nobody has retrieved it or found it in a query",
    )


def add_to(app: typer.Typer) -> None:
    """Make all of these commands of ``hsm study``."""
    for command in (hold, unhold, holds, tag, untag, retain, accesses):
        app.command()(command)
