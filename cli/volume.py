"""``hsm volume``: cartridges, discs and file systems."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import screen, text
from cli.pool import say_drain
from cli.screen import Json, Limit, Offset
from cli.session import connect

Barcode = Annotated[str, typer.Argument(help="The volume's barcode or name.")]

app = typer.Typer(help="Volumes: what is on them and where they are.", no_args_is_help=True)


@app.command()
def ls(
    context: typer.Context,
    pool: Annotated[str, typer.Option(help="Only of this pool.")] = "",
    state: Annotated[
        str, typer.Option(help="scratch, labelled, active, full, suspect, retired or lost.")
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
        }
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


@app.command()
def label(
    context: typer.Context,
    barcode: Barcode,
    pool: Annotated[str, typer.Argument(help="The pool it is for.")],
    json: Json = False,
) -> None:
    """Write our label on a blank volume and give it to a pool."""
    with connect(context) as client:
        done = client.label(barcode, pool)
    screen.say_json(done) if json else screen.say(f"{barcode} is labelled for pool {pool}")


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
def retire(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Take a volume that holds nothing that counts out of use for good."""
    with connect(context) as client:
        done = client.retire(barcode)
    screen.say_json(done) if json else screen.say(f"{barcode} is retired")
