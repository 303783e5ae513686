"""``hsm study delete|undelete|trash|rejections|unreject``: what is deleted or rejected, and taken back."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cli import screen, text
from cli.screen import Json, Limit, Offset
from cli.session import connect
from cli.study_marks import Reason, Uid


def delete(
    context: typer.Context,
    uid: Uid,
    reason: Reason,
    refuse_late: Annotated[
        bool,
        typer.Option("--refuse-late", help="Refuse what arrives for it from now on; else it is kept as new."),
    ] = False,
    json: Json = False,
) -> None:
    """Put a study into the trash: peers do not see it any more; every copy stays until its day has come.

    What has come for a study in the trash goes there too when it is deleted again; its time begins anew then.
    Refused under a legal hold and before the end of its retention.
    """
    with connect(context) as client:
        done = client.delete_study(uid, reason, refuse_late=refuse_late)
    if json:
        screen.say_json(done)
        return
    screen.say(
        f"study {text.clean(uid)} is in the trash until {text.local(done['due_at'])}; "
        "`hsm study undelete` takes it back until then"
    )
    if done["bytes_on_removable"]:
        names = ", ".join(map(text.clean, done["bytes_on_removable"]))
        screen.say(
            f"bytes remain on {names} also afterwards, until each is repacked and reused, or destroyed"
        )


def undelete(context: typer.Context, uid: Uid, reason: Reason, json: Json = False) -> None:
    """Take a study out of the trash: it is as it was."""
    with connect(context) as client:
        done = client.undelete_study(uid, reason)
    screen.say_json(done) if json else screen.say(f"study {text.clean(uid)} is back, whole")


def trash(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also what was taken back, and what is gone.")] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    json: Json = False,
) -> None:
    """What is in the trash, what comes to its end next first."""
    with connect(context) as client:
        found = client.trash(every=every, limit=limit, offset=offset)
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        ["study", "deleted", "by", "until", ">size", "state"],
        [
            (
                screen.lines(Text(each["study"]), Text(text.clean(each["reason"]), style="dim")),
                text.local(each["deleted_at"]),
                text.clean(each["deleted_by"]),
                text.local(each["due_at"]),
                text.size(each["bytes"]),
                _state(each),
            )
            for each in found
        ],
        empty="the trash is empty",
    )


def rejections(context: typer.Context, limit: Limit = 50, offset: Offset = 0, json: Json = False) -> None:
    """What rejection notes keep out of use, the last first."""
    with connect(context) as client:
        found = client.rejections(limit=limit, offset=offset)
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        ["study", ">instances", ">not here yet", "why", "when", "by"],
        [
            (
                screen.lines(Text(each["study"]), Text(f"note {each['note']}", style="dim")),
                str(each["instances"]),
                str(each["awaited"] or ""),
                f"{each['title']} ({each['code']})",
                text.local(each["rejected_at"]),
                text.clean(each["rejected_by"]),
            )
            for each in found
        ],
        empty="nothing is rejected",
    )


def unreject(
    context: typer.Context,
    uid: Uid,
    reason: Reason,
    note: Annotated[
        str, typer.Option("--note", help="Only what this rejection note (SOP Instance UID) rejects.")
    ] = "",
    json: Json = False,
) -> None:
    """Take the rejections of a study back: its instances are shown again."""
    with connect(context) as client:
        done = client.unreject(uid, reason, note)
    if json:
        screen.say_json(done)
        return
    screen.say(f"study {text.clean(uid)}: {text.plural(done['revoked'], 'rejection')} taken back")


def _state(each: dict[str, Any]) -> str:
    names = ", ".join(map(text.clean, each["bytes_on_removable"]))
    if each["state"] == "purged":
        return f"gone; bytes remain on {names}" if names else "gone"
    if each["state"] == "undone":
        return f"taken back by {text.clean(each['ended_by'])}"
    said = "its copies are being released" if each["state"] == "due" else "in the trash"
    if each["bytes_since"]:
        said += (
            f"; {text.size(each['bytes_since'])} came since and are kept: delete it again, undelete it, or"
        )
        said += " leave them as a study of their own"
    return "; ".join([said, *(text.clean(each[why]) for why in ("kept", "waits") if each[why])])


def add_to(app: typer.Typer) -> None:
    """Make all of these commands of ``hsm study``."""
    for command in (delete, undelete, trash, rejections, unreject):
        app.command()(command)
