"""``hsm catalog``: the database, without a daemon."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated

import typer

from cli import offline
from cli.screen import Json

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Without it, the file that `hsm serve` would use.")
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
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Is the catalog whole, at the right revision, and its journal unbroken? Changes nothing.

    With --media, which a restore from a backup demands: what media know and the catalog has forgotten is
    taken in, what contradicts it is left alone and named, what it believes and they have not is suspect.
    Nothing is deleted; killed and run again it goes on."""
    if media:
        from hsm.offlinemedia import Wanted, compare_with_media  # heavy: only for what needs it

        wanted = Wanted(verify=verify, by=context.obj.by or getpass.getuser())
        done = compare_with_media(config, os.environ, wanted, tuple(without or ()), offline.teller())
        offline.finish(done, json)
    if verify or without:
        raise typer.BadParameter("--verify and --without go with --media")
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
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write, a new one.")],
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Write the whole catalog, as of one moment, into one file. A daemon may go on meanwhile."""
    from hsm.offline import backup_catalog  # heavy: only for the commands that need it

    offline.finish(backup_catalog(config, os.environ, output), json)


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
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Make a catalog from labels and manifests, when the database is lost. Stop the daemon first.

    Killed and run again it goes on where it was. A copy of which only the manifest was read is `written`
    and counts for nothing until it was read back."""
    from hsm.offlinemedia import Wanted, rebuild_catalog  # heavy: only for the commands that need it

    by = context.obj.by or getpass.getuser()
    wanted = Wanted(tuple(source or ()), verify, into, by)
    offline.finish(rebuild_catalog(config, os.environ, wanted, offline.teller()), json)


@app.command()
def restore(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="What `backup` wrote.")],
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Put a backup back into an empty catalog, of either database. Stop the daemon first.

    The media know what was written since: `hsm catalog check --media` comes next. Before that a daemon
    receives and answers, and releases, seals, copies, labels and recycles nothing.
    """
    from hsm.offline import restore_catalog  # heavy: only for the commands that need it

    by = context.obj.by or getpass.getuser()
    offline.finish(restore_catalog(config, os.environ, backup, by), json)
