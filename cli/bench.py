"""``hsm bench``: the project's own benchmarks. They need no daemon and touch no catalog but their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import screen
from cli.session import EXIT_PROBLEM, Commands

if TYPE_CHECKING:
    from hsm.bench.frame import Report

app = typer.Typer(
    cls=Commands,
    help="Measure this software on this machine; docs/BENCHMARKS.md says how to read it.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option(help="Where to make what is measured (removed afterwards); else the system's for such."),
]


@app.command("find")
def find(
    database: Annotated[
        list[str] | None, typer.Option(help="sqlite or postgresql; both when left out.")
    ] = None,
    studies: Annotated[
        list[int] | None, typer.Option(min=100, help="Size of an archive; several to compare.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often to ask each query.")] = 15,
    limit: Annotated[int, typer.Option(min=1, help="Break an answer off after so many matches.")] = 5000,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """Queries on made-up archives of several sizes: the first match, all matches."""
    from hsm.bench import find as bench
    from hsm.bench.databases import Database

    sizes = sorted(studies or [10_000, 100_000, 1_000_000])

    def measure(work: Path) -> list[Report]:
        reports = []
        for kind in _databases(database):
            place = work / kind
            place.mkdir()
            reports.append(bench.run(Database(kind), sizes, place, rounds=rounds, limit=limit, say=_say))
        return reports

    _show(measure, folder, json)


@app.command("rebuild")
def rebuild(
    database: Annotated[
        list[str] | None, typer.Option(help="sqlite or postgresql; both when left out.")
    ] = None,
    packages: Annotated[int, typer.Option(min=1, help="How many there are on the medium.")] = 1000,
    instances: Annotated[int, typer.Option(min=1, help="Of a package.")] = 200,
    drives: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Instead: a simulated library with so many drives; several to compare."),
    ] = None,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """Manifests into a catalog, and copies that are known already: a rebuild without the media. With --drives
    the media are what is measured: cartridges of a simulated library, in an LTO-8's time."""
    from hsm.bench import rebuild as bench
    from hsm.bench import rebuild_drives
    from hsm.bench.databases import Database

    if drives:
        _show(lambda work: [rebuild_drives.run(drives, rebuild_drives.Site(), work)], folder, json)
        return

    def measure(work: Path) -> list[Report]:
        reports = []
        for kind in _databases(database):
            place = work / kind
            place.mkdir()
            reports.append(bench.run(Database(kind), packages, instances, place))
        return reports

    _show(measure, folder, json)


@app.command("size")
def size(
    instances: Annotated[int, typer.Option(min=1000, help="How many to fill the catalog with.")] = 5_000_000,
    longest: Annotated[bool, typer.Option(help="UIDs of 64 characters in no order: the worst case.")] = False,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """What an instance costs in a PostgreSQL catalog, indexes included."""
    from hsm.bench import size as bench

    _show(lambda work: [bench.run(instances, work, longest=longest, say=_say)], folder, json)


@app.command("recall")
def recall(
    cases: Annotated[int, typer.Option(min=1, help="Cartridges of each sort.")] = 100,
    comparisons: Annotated[int, typer.Option(min=1, help="Random cases against FIFO.")] = 1000,
    days: Annotated[int, typer.Option(min=1, help="Mixed days for each model of drive.")] = 20,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """The order in which packages are read from tape, and a mixed day of two drives, on models of LTO-8 and
    LTO-9 drives."""
    from hsm.bench import recall as bench

    _show(lambda _: [bench.run(cases, comparisons, days, _say)], folder, json)


@app.command("eta")
def eta(
    studies: Annotated[int, typer.Option(min=6, help="To recall.")] = 60,
    speed: Annotated[float, typer.Option(min=1, max=200, help="Of the simulation's clock.")] = 25.0,
    slower: Annotated[
        float, typer.Option(min=0.1, max=10, help="How many times slower the drives are than their model.")
    ] = 1.0,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """How far off a recall's ETA is: a whole daemon, a simulated library, recalls at random moments, and an
    operator who walks."""
    from hsm.bench import eta as bench

    _show(lambda work: [bench.run(work, studies=studies, speed=speed, slower=slower, say=_say)], folder, json)


@app.command("s3")
def s3(
    against: Annotated[
        list[str] | None, typer.Option(help="s5cmd or rclone; repeat it for both. Else the first installed.")
    ] = None,
    mib: Annotated[int, typer.Option(min=1, help="Of the one object.")] = 1024,
    instances: Annotated[int, typer.Option(min=1, help="Of the study.")] = 1635,
    kilobytes: Annotated[int, typer.Option(min=1, help="Of an instance (1000s).")] = 220,
    round_trip: Annotated[
        float, typer.Option(min=0, help="Milliseconds added to each request of the study: a bucket far away.")
    ] = 0.0,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """The S3 driver on a server started here: one object against other tools, a study as one package."""
    from hsm.bench import s3 as bench

    _known(against, list(bench.PEERS), "--against")
    plan = bench.Plan(mib << 20, rounds, instances, kilobytes * 1000, round_trip / 1000)
    _show(lambda work: [bench.run(plan, work, against=against or [], say=_say)], folder, json)


@app.command("sftp")
def sftp(
    mib: Annotated[int, typer.Option(min=1, help="Of the object.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    cipher: Annotated[str, typer.Option(help="As `ssh -Q cipher` names it; else aes128-gcm.")] = "",
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """The sftp driver against OpenSSH's own sftp, through a server started here."""
    from hsm.bench import sftp as bench

    _show(lambda work: [bench.run(mib << 20, rounds, cipher, work, _say)], folder, json)


@app.command("nas")
def nas(
    mib: Annotated[int, typer.Option(min=1, help="Of the object.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """The nas driver against the folder driver, in one folder (--folder: on a mount, that mount)."""
    from hsm.bench import nas as bench

    _show(lambda work: [bench.run(mib << 20, rounds, work, _say)], folder, json)


@app.command("policy")
def policy(
    studies: Annotated[
        list[int] | None,
        typer.Option(min=100, help="Size of an archive: 100000 and multiples of it; several to compare."),
    ] = None,
    at_most: Annotated[
        int, typer.Option(min=1000, help="Break a run that matches all off after so many studies.")
    ] = 100_000,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """Policy runs on made-up archives of several sizes, in PostgreSQL; 10,000,000 studies take 20 GB."""
    from hsm.bench import policy as bench

    sizes = sorted(studies or [100_000, 1_000_000, 10_000_000])
    _show(lambda work: [bench.run(sizes, work, at_most=at_most, say=_say)], folder, json)


@app.command("audit")
def audit(
    studies: Annotated[
        list[int] | None, typer.Option(min=1000, help="Size of an archive; several to compare.")
    ] = None,
    database: Annotated[
        list[str] | None, typer.Option(help="sqlite or postgresql; both unless one is named.")
    ] = None,
    past: Annotated[bool, typer.Option(help="Also as of times that are over, from the journal.")] = True,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """How long `hsm audit copies` takes for archives of several sizes."""
    from hsm.bench import audit as bench
    from hsm.bench.databases import Database

    _known(database, [each.value for each in Database], "--database")
    wanted = [each for each in Database if not database or each.value in database]
    sizes = sorted(studies or [1_000_000])
    _show(lambda work: [bench.run(sizes, wanted, work, past=past, say=_say)], folder, json)


@app.command("ingest")
def ingest(
    against: Annotated[
        list[str] | None, typer.Option(help="orthanc, storescp or pynetdicom; repeat it for several.")
    ] = None,
    kib: Annotated[list[int] | None, typer.Option(min=2, help="Of an instance; 33 and 512.")] = None,
    associations: Annotated[list[int] | None, typer.Option(min=1, help="At once; 1 and 4.")] = None,
    instances: Annotated[int, typer.Option(min=1, help="In a run, of all associations together.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 5,
    receivers: Annotated[int, typer.Option(min=1, help="Receiving processes of ours.")] = 1,
    catalog: Annotated[str, typer.Option(help="URL of an empty catalog for ours; else SQLite.")] = "",
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """How many instances a second are stored, flushed and catalogued, ours and another archive's in turn."""
    from hsm.bench import ingest as bench

    _known(against, [name for name in bench.RECEIVERS if name != "hsm"], "--against")
    loads = [
        bench.Load(size, each, instances) for size in kib or [512, 33] for each in associations or [1, 4]
    ]
    settings = bench.Settings(catalog, receivers)
    _show(
        lambda work: [
            bench.run(loads, work, against=against or [], rounds=rounds, settings=settings, say=_say)
        ],
        folder,
        json,
    )


@app.command("retrieve")
def retrieve(
    against: Annotated[
        list[str] | None, typer.Option(help="orthanc or dcmqrscp; repeat it for several.")
    ] = None,
    kib: Annotated[int, typer.Option(min=1, help="Of pixel data in an instance.")] = 512,
    instances: Annotated[int, typer.Option(min=1, help="Of the study.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 9,
    pdu: Annotated[
        int, typer.Option(min=4096, max=131072, help="The longest PDU that the receivers announce.")
    ] = 16384,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """How fast a study comes out by C-MOVE and C-GET, from ours and from another archive in turn."""
    from hsm.bench import retrieve as bench

    _known(against, [name for name in bench.ARCHIVES if name != "hsm"], "--against")
    study = bench.Study(instances, kib)
    _show(
        lambda work: [bench.run(study, work, against=against or [], rounds=rounds, pdu_bytes=pdu, say=_say)],
        folder,
        json,
    )


@app.command("tape")
def tape(
    package: Annotated[
        list[str] | None,
        typer.Option(help="Instances x KiB x packages, as 500x33x12; several to compare."),
    ] = None,
    to: Annotated[list[str] | None, typer.Option(help="null, file or drive (a model of LTO-9); all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 5,
    ring_mib: Annotated[int, typer.Option(min=2, help="Memory to read ahead into, MiB.")] = 256,
    folder: Folder = None,
    json: screen.Json = False,
) -> None:
    """How fast a tape drive is fed with packages composed from instance files, and with tar | dd."""
    from hsm.bench import tape as bench

    _known(to, list(bench.SINKS), "--to")
    shapes = [bench.Shape(*_numbers(each, 3)) for each in package or ["500x33x16", "200x512x4", "480x1024x1"]]
    sinks = to or list(bench.SINKS)
    _show(
        lambda work: [
            bench.run(shapes, work, sinks=sinks, rounds=rounds, ring_bytes=ring_mib << 20, say=_say)
        ],
        folder,
        json,
    )


def _numbers(text: str, count: int) -> list[int]:
    parts = text.split("x")
    if len(parts) != count or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r}: {count} numbers with x between them, as 500x33x12")
    return [int(part) for part in parts]


def _known(asked: list[str] | None, known: list[str], option: str) -> None:
    for each in asked or []:
        if each not in known:
            raise typer.BadParameter(f"{each!r}: use {', '.join(known)}", param_hint=option)


def _databases(asked: list[str] | None) -> list[str]:
    known = ["sqlite", "postgresql"]
    for each in asked or []:
        if each not in known:
            raise typer.BadParameter(f"{each!r}: use sqlite or postgresql", param_hint="--database")
    return asked or known


def _say(words: str) -> None:
    screen.err().print(words, style="dim")


def _show(measure: Callable[[Path], list[Report]], folder: Path | None, json: bool) -> None:
    """Measure in a folder of its own, then print tables, or one JSON document."""
    from hsm.errors import HsmError

    try:
        with tempfile.TemporaryDirectory(prefix="hsm-bench-", dir=folder) as work:
            reports = measure(Path(work))
    except (HsmError, OSError) as error:
        screen.complain(str(error))
        raise typer.Exit(EXIT_PROBLEM) from error
    if json:
        screen.say_json([report.record() for report in reports])
        return
    for report in reports:
        _print(report)


def _print(report: Report) -> None:
    facts: dict[str, Any] = {**report.machine, **report.settings}
    screen.say("; ".join(f"{key} {value}" for key, value in facts.items() if value not in ("", None)))
    for table in report.tables:
        screen.say("")
        screen.say_table(table.columns, table.rows, title=table.title)
    for note in report.notes:
        screen.say(note)
    screen.say("")
