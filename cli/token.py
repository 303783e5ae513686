"""``hsm token``: who may come in over the network. Needs no daemon, but its configuration and its rights."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_PROBLEM, EXIT_USAGE

app = typer.Typer(
    help="Tokens for the control API of other machines (api.tcp). Needs no daemon.", no_args_is_help=True
)
File = Annotated[
    Path | None, typer.Option("--file", help="The file of tokens; without it, what the configuration says.")
]
Name = Annotated[str, typer.Argument(help="What the token is called.")]


@app.callback()
def group() -> None:
    """Tokens for the control API of other machines."""


@app.command()
def new(
    name: Name,
    role: Annotated[str, typer.Option(help="admin, operator, auditor or read-only.")],
    person: Annotated[
        str, typer.Option(help="Who has it, as the login name where there is one; NAME without.")
    ] = "",
    expires: Annotated[str, typer.Option(help="A duration, or `never`.")] = "90 days",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file for the token, mode 0600.")
    ] = None,
    file: File = None,
) -> None:
    """Make a token and print it: the only time that it is seen.

    What is kept of it lets nobody in. The daemon knows it at once.
    """
    from hsm import tokens
    from hsm.offline import expiry

    now = datetime.now(UTC)
    made = tokens.new_token()
    try:
        ends = expiry(expires, now)
        token = tokens.Token(name, person or name, role, tokens.digest_of(made), now, ends)
    except ValueError as error:
        screen.complain(str(error))
        raise typer.Exit(EXIT_USAGE) from error
    out = _created(output) if output is not None else None
    try:
        _try(lambda: tokens.add(_file(file), token))
    except typer.Exit:
        if output is not None:
            output.unlink(missing_ok=True)
        raise
    if out is not None:
        with os.fdopen(out, "w", encoding="ascii") as written:
            written.write(made + "\n")
        screen.say(f"token {name} for {token.person}, {role}, is in {output}")
    else:
        screen.say(made)


@app.command()
def ls(file: File = None, json: Json = False) -> None:
    """The tokens that there are; not the tokens themselves, which are kept nowhere."""
    from hsm import tokens

    now = datetime.now(UTC)
    found: list[Any] = []
    _try(lambda: found.extend(tokens.read(_file(file))))
    rows = [{**each.record(), "good": each.is_good(now)} for each in found]
    for row in rows:
        del row["sha256"]
    if json:
        screen.say_json(rows)
        return
    screen.say_table(
        ["name", "person", "role", "made", "expires"],
        [
            (
                row["name"],
                row["person"],
                row["role"],
                text.local(row["created_at"]),
                (text.local(row["expires_at"]) or "never") + ("" if row["good"] else " (expired)"),
            )
            for row in rows
        ],
    )


@app.command()
def revoke(name: Name, file: File = None) -> None:
    """Make a token worthless, at once."""
    from hsm import tokens

    _try(lambda: tokens.revoke(_file(file), name))
    screen.say(f"token {name} is worth nothing any more")


def _file(given: Path | None) -> Path:
    from hsm.offline import tokens_file

    return given if given is not None else tokens_file(os.environ)


def _created(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        screen.complain(f"{path}: {error.strerror or error}")
        raise typer.Exit(EXIT_PROBLEM) from error


def _try(act: Any) -> None:
    from hsm.errors import HsmError

    try:
        act()
    except HsmError as error:
        screen.complain(str(error))
        raise typer.Exit(EXIT_PROBLEM) from error
