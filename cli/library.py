"""``hsm library``: changers, drives and what lies in them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import paper, screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, EXIT_REFUSED, connect

Barcode = Annotated[str, typer.Argument(help="The volume's barcode.")]
Library = Annotated[str, typer.Argument(help="The library's name.")]
Drive = Annotated[int, typer.Argument(help="The drive's element address.")]
Barcodes = Annotated[list[str], typer.Argument(help="The volumes' barcodes.")]
PickList = Annotated[bool, typer.Option("--pick-list", help="Print a list that fits a sheet of A4.")]
Comment = Annotated[str, typer.Option(help="For the journal.")]

app = typer.Typer(help="Media libraries: what is in them, and moving it.", no_args_is_help=True)


@app.command()
def inventory(
    context: typer.Context,
    library: Annotated[str, typer.Argument(help="Only this library.")] = "",
    json: Json = False,
) -> None:
    """Look into the libraries now; the catalog follows what is seen."""
    with connect(context) as client:
        rows = client.inventory(library)
    if json:
        screen.say_json(rows)
        return
    screen.say_table(
        ["library", "element", ">address", "holds", "state", "pool", "it says"],
        [
            (
                row["library"],
                row["kind"],
                row["address"],
                row.get("barcode") or "-",
                screen.state(row["state"]) if row.get("state") else "",
                row.get("pool") or "",
                row.get("note") or "",
            )
            for row in rows
        ],
        empty="no library is configured",
    )


@app.command()
def load(
    context: typer.Context,
    barcode: Barcode,
    drive: Drive,
    json: Json = False,
) -> None:
    """Put a volume into a drive (maintenance; the daemon does it by itself for its own work)."""
    with connect(context) as client:
        done = client.load(barcode, drive)
    screen.say_json(done) if json else screen.say(f"{barcode} is in drive {drive}")


@app.command()
def unload(
    context: typer.Context,
    library: Library,
    drive: Drive,
    json: Json = False,
) -> None:
    """Take the volume out of a drive and put it back into a slot."""
    with connect(context) as client:
        done = client.unload(library, drive)
    screen.say_json(done) if json else screen.say(f"drive {drive} of {library} is empty")


@app.command()
def export(
    context: typer.Context,
    barcodes: Barcodes,
    shelf: Annotated[str, typer.Option(help="Where they will stand, in your words.")] = "shelf",
    site: Annotated[str, typer.Option(help="In which building, if it is not the library's.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Only plan it: the robot moves nothing yet.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what recalls under way wait for.")] = False,
    pick_list: PickList = False,
    json: Json = False,
) -> None:
    """Send volumes out of the library to the shelf, or to a vault at another site.

    They are on their way until somebody says `hsm library arrived`. Said again, it goes on with what was
    left: as many go at once as there are mail slots. What recalls wait for stays until they have it.
    """
    with connect(context) as client:
        rows = client.plan_export(barcodes, shelf, site, plan=plan, force=force)
    _say_moves(rows, json=json, pick_list=pick_list)
    if any(row.get("note") for row in rows):
        raise typer.Exit(EXIT_REFUSED)


@app.command("return")
def bring_back(
    context: typer.Context, barcodes: Barcodes, pick_list: PickList = False, json: Json = False
) -> None:
    """Plan that volumes come back into their library from where they stand."""
    with connect(context) as client:
        rows = client.plan_return(barcodes)
    _say_moves(rows, json=json, pick_list=pick_list)


@app.command()
def moves(
    context: typer.Context,
    number: Annotated[int, typer.Option("--list", min=0, help="Of this pick list; else all under way.")] = 0,
    all_: Annotated[bool, typer.Option("--all", help="Ended ones too, the newest first.")] = False,
    pick_list: PickList = False,
    receipt: Annotated[bool, typer.Option("--receipt", help="Print who took what, and who has it.")] = False,
    json: Json = False,
) -> None:
    """Volumes on their way to a shelf or vault, or back."""
    with connect(context) as client:
        rows = client.movements(number=number, every=all_)
    if receipt and not json:
        screen.say(paper.receipt(rows))
        return
    _say_moves(rows, json=json, pick_list=pick_list)


@app.command()
def left(context: typer.Context, barcodes: Barcodes, comment: Comment = "", json: Json = False) -> None:
    """Say that you have taken volumes away: out of the mail slot, or from their shelf."""
    with connect(context) as client:
        rows = [client.movement(barcode, "left", comment) for barcode in barcodes]
    _say_moves(rows, json=json)


@app.command()
def arrived(
    context: typer.Context,
    barcodes: Barcodes,
    shelf: Annotated[str, typer.Option(help="Where they stand, if not where it was planned.")] = "",
    comment: Comment = "",
    json: Json = False,
) -> None:
    """Say that volumes are where they were to go."""
    with connect(context) as client:
        rows = [client.movement(barcode, "arrived", comment, shelf) for barcode in barcodes]
    _say_moves(rows, json=json)


@app.command()
def undo(context: typer.Context, barcodes: Barcodes, comment: Comment = "", json: Json = False) -> None:
    """Take the last step of a volume's way back: planned, taken or confirmed by mistake."""
    with connect(context) as client:
        rows = [client.movement(barcode, "undo", comment) for barcode in barcodes]
    _say_moves(rows, json=json)


def _say_moves(rows: list[dict[str, Any]], *, json: bool, pick_list: bool = False) -> None:
    if json:
        screen.say_json(rows)
        return
    if pick_list:
        screen.say(paper.pick_list(rows))
        return
    screen.say_table(
        [">list", "volume", "", "from", "to", "state", "who"],
        [
            (
                row["list"],
                row["barcode"],
                row["kind"],
                text.clean(row["from"]),
                text.clean(row["to"]),
                screen.state(row["state"]),
                text.clean(row["ended_by"] or row["left_by"] or row["planned_by"]),
            )
            for row in rows
        ],
        empty="nothing is on its way",
    )
    for row in rows:
        if row.get("note"):
            screen.say(f"{row['barcode']} {text.clean(row['note'])}", style="yellow")
        elif row["kind"] == "export" and row["state"] == "planned" and "note" in row:
            screen.say(
                f"{row['barcode']} is in a mail slot: take it out and put it on {text.clean(row['to'])}"
            )


@app.command("import")
def import_(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Take a volume that you have put into a mail slot (back) into the library."""
    with connect(context) as client:
        done = client.import_(barcode)
    screen.say_json(done) if json else screen.say(
        f"{barcode} is in {text.clean(done.get('library', 'the library'))}"
    )


@app.command()
def drive(
    context: typer.Context,
    library: Library,
    drive: Drive,
    state: Annotated[str, typer.Argument(help="on or off.")],
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "",
    json: Json = False,
) -> None:
    """Take a drive out of service (off), or back into it (on); work goes to the others meanwhile."""
    with connect(context) as client:
        done = client.set_drive(library, drive, state, reason)
    word = "in service" if done.get("in_service") else "out of service"
    screen.say_json(done) if json else screen.say(f"drive {drive} of {library} is {word}")


@app.command()
def clean(
    context: typer.Context,
    library: Library,
    drive: Drive,
    json: Json = False,
) -> None:
    """Clean a drive with a cleaning cartridge of the library; minutes."""
    with connect(context) as client:
        done = client.clean(library, drive)
    screen.say_json(done) if json else screen.say(f"drive {drive} of {library} is cleaned")


@app.command()
def report(
    context: typer.Context,
    library: Library,
    json: Json = False,
) -> None:
    """What each drive did with each cartridge, and where they fail: drive or medium to blame?

    Ends with 1 when a drive is out of service or fails with a cartridge.
    """
    with connect(context) as client:
        shown = client.library_report(library)
    if json:
        screen.say_json(shown)
    else:
        _say_report(shown)
    bad = any(not each["in_service"] or each["fails_with"] for each in shown["drives"])
    raise typer.Exit(EXIT_PROBLEM if bad else EXIT_GOOD)


def _say_report(shown: dict[str, Any]) -> None:
    screen.say_table(
        [">drive", "service", "fails with", "it says", "why"],
        [
            (
                each["drive"],
                "in" if each["in_service"] else "out",
                ", ".join(each["fails_with"]) or "-",
                _says(each),
                each["reason"] if not each["in_service"] else "",
            )
            for each in shown["drives"]
        ],
        empty="it shows no drive",
    )
    screen.say("")
    screen.say_table(
        [">drive", "volume", ">sessions", ">written", ">read", ">soft", ">hard", ">alerts", "to blame"],
        [
            (
                use["drive"],
                use["volume"],
                use["sessions"],
                text.size(use["bytes_written"]),
                text.size(use["bytes_read"]),
                use["soft_errors"],
                use["hard_errors"],
                use["alerts"],
                f"{use['blame']}: {use['why']}" if use["blame"] else "",
            )
            for use in shown["uses"]
        ],
        empty="no drive has been used",
    )


def _says(drive: dict[str, Any]) -> str:
    """A drive's own words, where it could be asked."""
    if "says" in drive:
        return str(drive["says"])
    clean = ["asks to be cleaned"] if drive.get("cleaning_asked") else []
    return ", ".join([*clean, *drive.get("alerts", ())])
