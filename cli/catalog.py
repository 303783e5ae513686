"""``hsm catalog``: the database, without a daemon."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import drilltext, offline, screen, session
from cli.screen import Json
from hsm.client import Client, Unreachable

if TYPE_CHECKING:
    from hsm.offline import Report

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Without it, the file that `hsm serve` would use.")
]

Drives = Annotated[
    int | None,
    typer.Option("--drives", min=1, help="Read so many cartridges at the same time; else as many as drives."),
]

app = typer.Typer(help="The catalog's database.", no_args_is_help=True)


@app.command()
def check(
    context: typer.Context,
    media: Annotated[
        bool, typer.Option("--media", help="Compare it with all media. Stop the daemon first.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="With --media: read every byte of every copy back.")
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="With --media: a volume nobody can bring; may be said again."),
    ] = None,
    drives: Drives = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Is the catalog whole, at the right revision, and its journal unbroken? Changes nothing.

    With --media, which a restore from a backup demands: what media know and the catalog has forgotten is
    taken in, what contradicts it is left alone and named, what it believes and they have not is suspect.
    Nothing is deleted; killed and run again it goes on."""
    if media:
        from hsm.offlinemedia import Wanted, compare_with_media  # heavy: only for what needs it

        wanted = Wanted(verify=verify, by=context.obj.by or getpass.getuser(), drives_max=drives)
        done = compare_with_media(config, os.environ, wanted, tuple(without or ()), offline.teller())
        offline.finish(done, json)
    if verify or without or drives:
        raise typer.BadParameter("--verify, --without and --drives go with --media")
    from hsm.offline import check_catalog  # heavy: only for the commands that need it

    offline.finish(check_catalog(config, os.environ), json)


@app.command()
def refresh(config: ConfigFile = None, json: Json = False) -> None:
    """Read again where studies lie and what their series say, where `hsm catalog check` found it wrong.

    A daemon may go on meanwhile."""
    from hsm.offline import refresh_catalog  # heavy: only for the commands that need it

    offline.finish(refresh_catalog(config, os.environ), json)


@app.command()
def upgrade(config: ConfigFile = None, json: Json = False) -> None:
    """Bring the catalog to this software's revision. Stop the daemon first, and make a backup."""
    from hsm.offline import upgrade_catalog  # heavy: only for the commands that need it

    offline.finish(upgrade_catalog(config, os.environ), json)


@app.command("backup")
def backup_(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write, a new one.")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="Write it into this pool, and read it back.")] = "",
    keep: Annotated[
        int, typer.Option("--keep", min=0, help="With --pool: drop all but the last so many.")
    ] = 0,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Write the whole catalog, as of one moment, into one file or into a pool. A daemon may go on meanwhile.

    Into a pool it is the daemon that writes where one answers. `catalog: backup:` of the configuration does
    it by itself."""
    if (output is None) == (not pool):
        raise typer.BadParameter("say where: -o FILE or --pool POOL")
    if output is not None:
        from hsm.offline import backup_catalog  # heavy: only for the commands that need it

        offline.finish(backup_catalog(config, os.environ, output), json)

    def alone(by: str) -> Report:
        from hsm.offlinemedia import backup_into_pool  # heavy: only for the commands that need it

        return backup_into_pool(config, os.environ, pool, keep, by)

    done = _by_daemon_or(context, lambda client: client.backup_catalog(pool, keep), alone, json)
    if json:
        screen.say_json(done)
    else:
        screen.say(f"{done['key']} on {done['volume']}, {done['bytes']} bytes, read back")
        screen.say(f"journal: {done['journal']}")


@app.command()
def drill(
    context: typer.Context,
    sample: Annotated[int, typer.Option("--sample", min=1, max=1000, help="How many volumes.")] = 3,
    pool: Annotated[str, typer.Option("--pool", help="Of this pool only.")] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Try a rebuild: a few volumes, read into a catalog that is thrown away, and compared with the real one.

    A daemon that answers does it with its own drives and goes on meanwhile. Nothing is changed; the journal
    says that there was a drill. Exit code 1 when something would not come back as it is."""

    def alone(by: str) -> Report:
        from hsm.offlinemedia import drill as offline_drill  # heavy: only for the commands that need it

        return offline_drill(config, os.environ, sample, pool, by)

    done = _by_daemon_or(context, lambda client: client.drill(sample, pool), alone, json)
    if json:
        screen.say_json(done)
    else:
        for line in drilltext.lines(done):
            screen.say(line)
    raise typer.Exit(session.EXIT_GOOD if done["good"] else session.EXIT_PROBLEM)


@app.command()
def rebuild(
    context: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", help="A pool or a volume; may be said again. Without it: all there are."),
    ] = None,
    into: Annotated[
        str, typer.Option("--into", help="The URL of another empty database than the configured one.")
    ] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte back: what is good is verified at once.")
    ] = False,
    with_deleted: Annotated[
        bool,
        typer.Option("--with-deleted", help="Bring back, too, what media say was deleted. See below."),
    ] = False,
    wait: Annotated[
        str, typer.Option("--wait", help="Wait up to so long for objects of cold classes: 12h, 2 d.")
    ] = "",
    drives: Drives = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make a catalog from labels and manifests, when the database is lost. Stop the daemon first.

    Killed and run again it goes on where it was. A copy of which only the manifest was read is `written`
    and counts for nothing until it was read back. Legal holds, retention dates, tags and rejections come back
    as far as media carry them. A study that media say was deleted goes into the trash for a week at least:
    nobody sees it, and `hsm study undelete` brings it back. With --with-deleted no deletion counts."""
    from hsm.config.units import parse_duration  # heavy: only for the commands that need it
    from hsm.offlinemedia import Wanted, rebuild_catalog

    by = context.obj.by or getpass.getuser()
    try:
        seconds = parse_duration(wait) if wait else 0.0
    except ValueError as error:
        raise typer.BadParameter(f"--wait {wait}: {error}") from error
    wanted = Wanted(tuple(source or ()), verify, into, by, with_deleted, seconds, drives)
    offline.finish(rebuild_catalog(config, os.environ, wanted, offline.teller()), json)


@app.command()
def restore(
    context: typer.Context,
    backup: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="What `backup -o` wrote.")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="Take the youngest backup of this pool.")] = "",
    volume: Annotated[str, typer.Option("--volume", help="With --pool: only from this volume.")] = "",
    key: Annotated[str, typer.Option("--key", help="With --pool: this backup, not the youngest.")] = "",
    moved: Annotated[
        bool,
        typer.Option(
            "--moved",
            help="With FILE: the catalog only moves to another database. You answer for it that the backup "
            "was made after the daemon had stopped: no comparison with the media is demanded.",
        ),
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Put a backup back into an empty catalog, of either database. Stop the daemon first.

    The media know what was written since: `hsm catalog check --media` comes next. Before that a daemon
    receives and answers, and releases, seals, copies, labels and recycles nothing.
    """
    if (backup is None) == (not pool) or ((volume or key) and not pool) or (moved and pool):
        raise typer.BadParameter("say from where: FILE, or --pool POOL (with --volume and --key)")
    by = context.obj.by or getpass.getuser()
    if backup is not None:
        from hsm.offline import restore_catalog  # heavy: only for the commands that need it

        offline.finish(restore_catalog(config, os.environ, backup, by, moved=moved), json)
    from hsm.offlinemedia import BackupAt, restore_from_pool  # heavy: only for the commands that need it

    source = BackupAt(pool, volume, key)
    offline.finish(restore_from_pool(config, os.environ, source, by, offline.teller()), json)


def _by_daemon_or(
    context: typer.Context,
    ask: Callable[[Client], dict[str, Any]],
    alone: Callable[[str], Report],
    json: bool,
) -> dict[str, Any]:
    """What the daemon does, with its own drives; where none answers, this process does it alone."""
    try:
        with session.connect(context) as client:
            return ask(client)
    except Unreachable:
        report = alone(context.obj.by or getpass.getuser())
    if not report.ok:
        offline.finish(report, json)
    return dict(report.detail)
