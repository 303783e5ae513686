"""Which kind of watch: the screen on a terminal, else plain text."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

import typer

from cli.watch import plain
from cli.watch.terminal import environment_at_start, look
from hsm.client import Client, Remote


def watch(
    to: Path | Remote, by: str, *, interval: float, once: bool, plain_text: bool, ascii_only: bool, bell: bool
) -> None:
    """Show the prompts until Ctrl-C, F10 or the end of the input.

    :raises ApiError: no daemon answers at the start.
    """
    with Client(to, by=by) as client:
        if once:
            plain.show_once(client)
            return
        client.health()  # a daemon that is not there ends the command at once
        if plain_text or not can_draw():
            plain.watch_mounts(client, interval)
            return
    from cli.watch.app import Watch  # 0.3 s of imports: only for the screen

    def open_client(name: str) -> Client:
        return Client(to, by=name)

    app = Watch(
        lambda name: lambda: open_client(name),
        look(environment_at_start(), ascii_only=ascii_only),
        name=by,
        login=_login(),
        interval=interval,
        bell=bell,
    )
    code = app.run(mouse=False)
    if app.fault:
        typer.echo(f"hsm: the screen ended by a fault of its own: {app.fault}", err=True)
    if app.state.pending:
        typer.echo("hsm: never answered by the daemon: " + ", ".join(map(str, app.state.pending)), err=True)
    raise typer.Exit(app.return_code or code or 0)


def can_draw() -> bool:
    """Whether all three streams are one terminal that can be drawn on."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(each.isatty() for each in streams) and os.environ.get("TERM", "dumb") not in ("dumb", "")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""  # a uid without a name: the operator types one
