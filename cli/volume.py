"""``hsm volume``: cartridges, discs and file systems."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import screen, text
from cli.pool import Stop, say_drain
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


@app.command()
def where(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Where a volume is, where it is going, and who said so last."""
    with connect(context) as client:
        row = client.where(barcode)
    if json:
        screen.say_json(row)
        return
    last = row["last"]
    screen.say_record(
        {
            "volume": row["name"],
            "where": row["where"],
            "on its way": row["moving"],
            "stands on": row["home"],
            "asked for": text.local(row["asked_for_since"]) if row["asked_for_since"] else "",
            "state": row["state"],
            "error": row["error"],
            "last": f"{text.local(last['at'])} {last['actor']}: {last['verb']}" if last else "",
        }
    )


@app.command()
def history(
    context: typer.Context, barcode: Barcode, limit: Limit = 200, offset: Offset = 0, json: Json = False
) -> None:
    """The journal's records about a volume, oldest first: who moved it, asked for it, wrote on it."""
    with connect(context) as client:
        records = client.volume_history(barcode, limit=limit, offset=offset)
    if json:
        screen.say_json(records)
        return
    screen.say_table(
        ["when", "who", "what", ""],
        [
            (
                text.local(each["at"]),
                text.clean(each["actor"]),
                text.clean(each["verb"]),
                text.clean(", ".join(f"{key} {value}" for key, value in each["detail"].items() if value)),
            )
            for each in records
        ],
        empty="nothing is recorded of it",
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
def drain(context: typer.Context, barcode: Barcode, stop: Stop = False, json: Json = False) -> None:
    """Empty a file system, share or bucket: new copies elsewhere in its pool, verified, then released."""
    with connect(context) as client:
        done = client.stop_drain(barcode) if stop else client.drain(barcode)
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


@app.command()
def repack(
    context: typer.Context,
    barcode: Annotated[str, typer.Argument(help="The cartridge; or one of the options below.")] = "",
    sparse: Annotated[
        int, typer.Option(min=0, max=99, help="Full cartridges of which less than this percentage is of use.")
    ] = 0,
    suspect: Annotated[bool, typer.Option("--suspect", help="Every suspect cartridge.")] = False,
    generation: Annotated[str, typer.Option(help="Every cartridge of a generation: LTO6.")] = "",
    pool: Annotated[str, typer.Option(help="Where the new copies go; the same pool without.")] = "",
    then: Annotated[str, typer.Option(help="recycle or retire, when it is empty.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Give the repack of BARCODE up.")] = False,
    json: Json = False,
) -> None:
    """Empty cartridges: new verified copies elsewhere, then the old ones are released.

    Said again, it tries again what failed and says what is left. Ends with 1 when something cannot go.
    """
    given: dict[str, str | int | bool] = {
        "barcode": barcode,
        "sparse": sparse,
        "suspect": suspect,
        "generation": generation,
        "pool": pool,
        "then": then,
    }
    wanted = {name: value for name, value in given.items() if value}
    with connect(context) as client:
        done = client.stop_repack(barcode) if stop else client.repack(dry_run=dry_run, **wanted)
    if json:
        screen.say_json(done)
    elif stop:
        screen.say(f"{barcode} is not repacked any more; {done['cancelled']} requests are withdrawn")
    else:
        _say_repack(done)
    kept = sum(len(each.get("refused", ())) + each.get("failed", 0) for each in done.get("volumes", ()))
    raise typer.Exit(EXIT_PROBLEM if kept else EXIT_GOOD)


def _say_repack(done: dict[str, Any]) -> None:
    screen.say_table(
        [
            "volume",
            "state",
            "to pool",
            "then",
            ">packages",
            ">bytes",
            ">of used",
            ">queued",
            ">failed",
            ">left",
        ],
        [
            (
                each["volume"],
                each["to_pool"],
                each["then"],
                each["packages"],
                text.size(each["bytes"]),
                each.get("queued", ""),
                each.get("failed", ""),
                each.get("left", ""),
            )
            for each in done["volumes"]
        ],
        empty="no cartridge is to be repacked",
    )
    for each in done["volumes"]:
        for kept in each.get("refused", ()):
            screen.say(f"{text.clean(kept['package'])} stays: {text.clean(kept['why'])}", style="yellow")


@app.command()
def scan(
    context: typer.Context,
    barcode: Barcode,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Register what the catalog does not have, once compared."),
    ] = False,
    pool: Annotated[str, typer.Option(help="Of a cartridge of another archive: its pool here.")] = "",
    json: Json = False,
) -> None:
    """Read a cartridge's label and index and compare them with the catalog.

    What the catalog expects on it and is not there becomes suspect. Ends with 1 when something is missing,
    unknown or cannot be adopted.
    """
    with connect(context) as client:
        found = client.scan(barcode, adopt=adopt, pool=pool)
    if json:
        screen.say_json(found)
    else:
        screen.say(f"{barcode} says: {text.clean(found['says'])}")
        screen.say(
            f"known {found['known']}, released {found['left_over']}, unknown {found['unknown']},"
            f" adopted {found['adopted']}, missing {found['missing']}"
        )
        for word in ("missing", "unknown"):
            for key in found["named"][word]:
                screen.say(f"  {word}: {text.clean(key)}", style="red" if word == "missing" else "")
        for each in found["named"]["refused"]:
            screen.say(
                f"  not adopted: {text.clean(each['package'])}: {text.clean(each['why'])}", style="red"
            )
    open_ends = found["missing"] or found["refused"] or found["unknown"] > found["adopted"]
    raise typer.Exit(EXIT_PROBLEM if open_ends else EXIT_GOOD)
