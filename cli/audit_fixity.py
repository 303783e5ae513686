"""``hsm audit verify`` and ``hsm audit media``."""

from __future__ import annotations

import csv
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import audit_html, screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect
from hsm.client import Client

Record = dict[str, Any]

POLL_SECONDS = 0.5
SHOWN_BAD = 50
COLUMNS = (
    *("name", "pool", "state", "place", "shelf", "generation", "age_days", "mounts", "copies", "damaged"),
    *("last_copy_of", "second_last_of", "verified_since", "hard_errors", "soft_errors", "blame", "advice"),
)
_STUDY = re.compile(r"[0-9]+(\.[0-9]+)+")


def verify(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="A Study Instance UID, or a volume's name or barcode.")] = "",
    sample: Annotated[str, typer.Option(help="Rather a sample of all copies, such as 1%.")] = "",
    pool: Annotated[str, typer.Option(help="Only copies in this pool.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="At once; stay until all have been read.")] = False,
    json: Json = False,
) -> None:
    """Read copies back from their media and compare their digests; ends with 1 when one does not match.

    Without --wait they are queued with the lowest priority. What does not match is made anew by itself, if
    there is a good copy.
    """
    percent = _percent(sample)
    if bool(subject) == bool(sample):
        raise typer.BadParameter("name a study or a volume, or give --sample")
    study = subject if _STUDY.fullmatch(subject) else ""
    volume = "" if study else subject
    with connect(context) as client:
        asked = client.verify_copies(study=study, volume=volume, percent=percent, pool=pool, urgent=wait)
        if not json:
            _say_asked(asked, wait=wait)
        found = _wait(client, asked["requests"], quiet=json) if wait else None
    if json:
        screen.say_json(asked if found is None else asked | {"found": found})
    elif found is not None:
        _say_found(found)
    raise typer.Exit(EXIT_GOOD if found is None or found["good"] else EXIT_PROBLEM)


def _percent(sample: str) -> float:
    if not sample:
        return 0.0
    try:
        percent = float(sample.strip().removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise typer.BadParameter(f"--sample {sample[:20]!r}: expected a percentage such as 1%")
    return percent


def _say_asked(asked: Record, *, wait: bool) -> None:
    copies = text.plural(asked["copies"], "copy is", "copies are")
    screen.say(f"{copies} read back" + ("" if wait else "; `hsm queue ls --kind verify` follows them"))
    if asked["waiting_for_a_person"]:
        screen.say(f"{asked['waiting_for_a_person']} of them on a shelf: see `hsm operator ls`")
    if asked["cold"]:
        screen.say(
            f"{asked['cold']} more lie in cold storage and are left out: a policy's rule `verify` does"
        )
    if asked["more"]:
        screen.say("there are more: these are the ones that were read back longest ago")


def _follow(
    client: Client, requests: Sequence[int], sleep: Callable[[float], None] = time.sleep
) -> Iterator[Record]:
    while True:
        found = client.verified(requests)
        yield found
        if not found["left"]:
            return
        sleep(POLL_SECONDS)


def _wait(client: Client, requests: Sequence[int], *, quiet: bool) -> Record:
    console = screen.err()
    found: Record = {"copies": [], "left": 0, "waiting": 0, "bytes": 0, "good": True}
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        return list(_follow(client, requests))[-1]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading back", total=len(requests))
        for found in _follow(client, requests):
            waits = f", {found['waiting']} wait for an operator" if found["waiting"] else ""
            said = f"{text.size(found['bytes'])} read{waits}"
            bar.update(task, description=said, completed=len(requests) - found["left"])
    return found


def _say_found(found: Record) -> None:
    bad = [each for each in found["copies"] if each["result"] not in ("matches", "cancelled")]
    for each in bad[:SHOWN_BAD]:
        where = f"{text.clean(each['volume'])} ({text.clean(each['pool'])})"
        screen.say(f"{each['study']} on {where}: {each['result']}", style="red")
        screen.say_text(f"  {text.clean(each['error'])}")
    if len(bad) > SHOWN_BAD:
        screen.say(f"and {len(bad) - SHOWN_BAD} more: see --json")
    good = sum(each["result"] == "matches" for each in found["copies"])
    matches = text.plural(good, "copy matches", "copies match")
    screen.say(f"{matches}, {len(bad)} do not; {text.size(found['bytes'])} read")


def media(
    context: typer.Context,
    barcode: Annotated[str, typer.Argument(help="One volume, and the studies that depend on it.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Studies that are named.")] = 100,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="The volumes, or the studies of one, as CSV.")
    ] = False,
    as_html: Annotated[bool, typer.Option("--html", help="One HTML page on standard output.")] = False,
    json: Json = False,
) -> None:
    """If this volume dies, these studies lose which copy; and which media need looking after, and why.

    Ends with 1 when one needs it now: damaged, not readable by any drive, to blame for errors, or not read
    back in time.
    """
    if as_csv + as_html + json > 1:
        raise typer.BadParameter("choose one of --csv, --html and --json")
    with connect(context) as client:
        found = client.audit_medium(barcode, limit) if barcode else client.audit_media()
    good = not found["act"] if barcode else found["good"]
    if json:
        screen.say_json(found)
    elif as_csv:
        _write_csv(found)
    elif as_html:
        sys.stdout.write(audit_html.medium_page(found) if barcode else audit_html.media_page(found))
    elif barcode:
        _say_medium(found)
    else:
        _say_media(found)
    raise typer.Exit(EXIT_GOOD if good else EXIT_PROBLEM)


def _say_media(found: Record) -> None:
    screen.say_table(
        ["volume", "pool", "state", "where", ">age", ">copies", ">last of", ">2nd last of"],
        [
            (
                each["name"],
                each["pool"],
                screen.state(each["state"]),
                " ".join(part for part in (each["place"], each["shelf"]) if part),
                f"{each['age_days'] // 365}y" if each["age_days"] >= 365 else f"{each['age_days']}d",
                each["copies"],
                each["last_copy_of"]["studies"],
                each["second_last_of"]["studies"],
            )
            for each in found["volumes"]
        ],
        empty="no volumes",
    )
    screen.say("last of: studies whose last good copy it holds; 2nd last of: that would have one other left")
    failing = [each for each in found["pairs"] if each["failing"] or each["hard_errors"]]
    if failing:
        screen.say("")
        screen.say_table(
            ["drive", "volume", ">hard", ">soft", ">now failing", "to blame"],
            [
                (
                    f"{each['library']}/{each['drive']}",
                    each["volume"],
                    each["hard_errors"],
                    each["soft_errors"],
                    each["failing"],
                    each["blame"],
                )
                for each in failing
            ],
        )
    _say_advice(found["volumes"])
    for each in found["drives"]:
        if not each["in_service"]:
            screen.say(f"drive {each['drive']} of {each['library']} is out of service", style="red")


def _say_advice(volumes: Sequence[Record]) -> None:
    for each in volumes:
        for one in each["advice"]:
            style = "red" if one["act"] else "yellow"
            screen.say_text(f"{text.clean(each['name'])}: {text.clean(one['what'])}", style=style)


def _say_medium(found: Record) -> None:
    only, second = found["last_copy_of"]["studies"], found["second_last_of"]["studies"]
    screen.say(
        f"{found['name']} ({found['pool']}) is {found['state']}; if it dies, "
        f"{text.plural(only, 'study loses', 'studies lose')} the last good copy and {second} the second last"
    )
    _say_advice([found])
    screen.say_table(
        ["study", ">good copies elsewhere", ">packages", ">size"],
        [
            (each["study"], each["copies_elsewhere"], each["packages"], text.size(each["bytes"]))
            for each in found["studies"]
        ],
        empty="nothing on it counts",
    )
    if found["not_named"]:
        screen.say(f"and {found['not_named']} more: see --limit, --csv")


def _write_csv(found: Record) -> None:
    writer = csv.writer(sys.stdout)
    if "studies" in found:
        names = ("study", "copies_elsewhere", "packages", "bytes")
        writer.writerow(names)
        writer.writerows([each[name] for name in names] for each in found["studies"])
        return
    writer.writerow(COLUMNS)
    for each in found["volumes"]:
        known = each | {
            "last_copy_of": each["last_copy_of"]["studies"],
            "second_last_of": each["second_last_of"]["studies"],
            "advice": "; ".join(one["what"] for one in each["advice"]),
        }
        writer.writerow([known[name] for name in COLUMNS])
