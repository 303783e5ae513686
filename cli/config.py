"""``hsm config``: checking a configuration; ``hsm reload``: putting it into force."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import offline, screen
from cli.screen import Json
from cli.session import EXIT_PROBLEM, connect

app = typer.Typer(help="The configuration.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The configuration."""


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="Without it, the file that `hsm serve` would use.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a configuration and the policies it names. Needs no daemon."""
    from hsm.offline import check_config  # heavy: only for the commands that need it

    offline.finish(check_config(file, os.environ), json)


@app.command()
def passcode() -> None:
    """Make of a user's passcode what `dicom.users` in the configuration keeps of it. Needs no daemon.

    Asks for it twice, or reads one line of what is piped in.
    """
    from hsm.passcode import SALT_BYTES, make

    if sys.stdin.isatty():
        given = typer.prompt("passcode", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        screen.complain("an empty passcode is none")
        raise typer.Exit(EXIT_PROBLEM)
    screen.say(str(make(given.encode(), os.urandom(SALT_BYTES))))


def reload(context: typer.Context, json: Json = False) -> None:
    """Make the daemon read its configuration and policies again.

    A bad one is refused whole; the old one stays in force.
    """
    with connect(context) as client:
        done = client.reload()
    if json:
        screen.say_json(done)
    else:
        screen.say("reloaded")
        screen.say_record(done)
