"""``hsm volume``: cartridges, discs and file systems."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import screen, text
from cli.pool import say_drain
from cli.screen import Json, Limit, Offset
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect

Barcode = Annotated[str, typer.Argument(help="The volume's barcode or name.")]

app = typer.Typer(help="Volumes: what is on them and where they are.", no_args_is_help=True)


@app.command()
def ls(
    context: typer.Context,
    pool: Annotated[str, typer.Option(help="Only of this pool.")] = "",
    state: Annotated[
        str,
        typer.Option(help="scratch, foreign, labelled, active, full, suspect, recycled, retired, lost."),
    ] = "",
    place: Annotated[str, typer.Option(help="mounted, slot, mail, drive, shelf or unknown.")] = "",
    limit: Limit = 200,
    offset: Offset = 0,
    json: Json = False,
) -> None:
    """Volumes by name."""
    with connect(context) as client:
        rows = client.volumes(pool=pool, state=state, place=place, limit=limit, offset=offset)
    if json:
        screen.say_json(rows)
        return
    screen.say_table(
        ["volume", "pool", "state", "where", ">used", ">of", "copies"],
        [
            (
                row["name"],
                row["pool"] or "-",
                screen.state(row["state"]),
                row["where"],
                text.size(row["used"]),
                text.size(row["capacity"]) if row["capacity"] else "",
                text.counts(row["copies"]) or "none",
            )
            for row in rows
        ],
        empty="no volumes",
    )


def _drained(row: dict[str, Any]) -> str:
    drain = row.get("drain") or {}
    if not drain:
        return ""
    parts = [f"to be {drain['to']}"] if drain.get("to") else []
    parts += [f"{count} {state}" for state, count in drain.get("requests", {}).items()]
    parts += [f"{drain['left']} left on it"] if "left" in drain else []
    return ", ".join(parts)


@app.command()
def show(
    context: typer.Context, barcode: Barcode, limit: Limit = 50, offset: Offset = 0, json: Json = False
) -> None:
    """One volume and the packages on it."""
    with connect(context) as client:
        row = client.volume(barcode, limit=limit, offset=offset)
    if json:
        screen.say_json(row)
        return
    screen.say_record(
        {
            "volume": row["name"],
            "label": row["uuid"],
            "pool": row["pool"],
            "state": row["state"],
            "where": row["where"],
            "used": f"{text.size(row['used'])} of {text.size(row['capacity'])}",
            "copies": row["copies"],
            "error": row["error"],
            "it says": row.get("content", ""),
            "write-once": "yes" if row.get("worm") else "",
            "drained": _drained(row),
        }
    )
    uses = row.get("uses", ())
    if uses:
        screen.say("")
        screen.say_table(
            ["drive", ">sessions", ">written", ">read", ">soft", ">hard", ">alerts", "to blame"],
            [
                (
                    f"{use['library']} {use['drive']}",
                    use["sessions"],
                    text.size(use["bytes_written"]),
                    text.size(use["bytes_read"]),
                    use["soft_errors"],
                    use["hard_errors"],
                    use["alerts"],
                    f"{use['blame']}: {use['why']}" if use["blame"] else "",
                )
                for use in uses
            ],
            empty="",
        )
    screen.say("")
    screen.say_table(
        ["package", "copy", ">size", "verified"],
        [
            (
                text.short(entry["package"], 42),
                screen.state(entry["state"]),
                text.size(entry["bytes"]),
                text.local(entry["verified_at"])[:10],
            )
            for entry in row["packages"]
        ],
        empty="no packages",
    )


Reason = Annotated[str, typer.Option(help="Why, for the journal.")]


@app.command()
def label(
    context: typer.Context,
    barcode: Barcode,
    pool: Annotated[str, typer.Argument(help="The pool it is for; needed where several may have it.")] = "",
    pool_option: Annotated[str, typer.Option("--pool", help="The same, as an option.")] = "",
    overwrite: Annotated[
        str,
        typer.Option(help="The barcode once more, typed out: what is on the cartridge is written over."),
    ] = "",
    json: Json = False,
) -> None:
    """Write our label on a volume and give it to a pool. What is not blank is left alone, unless told."""
    with connect(context) as client:
        done = client.label(barcode, pool or pool_option, overwrite)
    if json:
        screen.say_json(done)
        return
    if done.get("was"):
        screen.say(f"it was: {text.clean(done['was'])}")
    screen.say(f"{barcode} is labelled for pool {text.clean(done.get('pool') or pool or pool_option)}")


@app.command()
def move(
    context: typer.Context,
    barcode: Barcode,
    shelf: Annotated[str, typer.Argument(help="Where it stands now, in your words.")],
    json: Json = False,
) -> None:
    """Note where on the shelf a volume is."""
    with connect(context) as client:
        done = client.move(barcode, shelf)
    screen.say_json(done) if json else screen.say(f"{barcode} is on shelf {shelf}")


@app.command()
def verify(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Read every copy on a volume back and compare the digests."""
    with connect(context) as client:
        done = client.verify(barcode)
    queued = text.plural(done["requests"], "read-back is", "read-backs are")
    screen.say_json(done) if json else screen.say(f"{queued} queued; `hsm queue ls` follows them")


@app.command()
def drain(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Empty a file system, share or bucket: new copies elsewhere in its pool, verified, then released."""
    with connect(context) as client:
        done = client.drain(barcode)
    say_drain(done, json)


@app.command()
def retire(context: typer.Context, barcode: Barcode, reason: Reason = "", json: Json = False) -> None:
    """Take a volume that holds nothing that counts out of use for good."""
    with connect(context) as client:
        done = client.retire(barcode, reason)
    screen.say_json(done) if json else screen.say(f"{barcode} is retired")


@app.command()
def recycle(context: typer.Context, barcode: Barcode, reason: Reason = "", json: Json = False) -> None:
    """Let a volume that holds nothing that counts be labelled anew when a pool needs one."""
    with connect(context) as client:
        done = client.recycle(barcode, reason)
    screen.say_json(done) if json else screen.say(f"{barcode} may be used again")


@app.command()
def lost(
    context: typer.Context,
    barcode: Barcode,
    reason: Annotated[str, typer.Option(help="What happened to it, for the journal.")],
    json: Json = False,
) -> None:
    """Give a volume up: its copies count no longer, and what policy lacks then is copied anew.

    Ends with 1 when a package has no copy left that can be read.
    """
    with connect(context) as client:
        done = client.lost(barcode, reason)
    if json:
        screen.say_json(done)
    else:
        copies = text.plural(done["copies"], "copy is", "copies are")
        queued = text.plural(done["requests"], "new one is", "new ones are")
        screen.say(f"{barcode} is lost: {copies} lost with it, {queued} queued")
        if done["without_copy"]:
            screen.say(f"packages without a copy that can be read: {done['without_copy']}", style="red")
            for key in done["named"]:
                screen.say(f"  {text.clean(key)}")
    raise typer.Exit(EXIT_PROBLEM if done["without_copy"] else EXIT_GOOD)
