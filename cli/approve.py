"""``hsm approve``: commands that wait for a second person."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_PROBLEM, Commands, connect

Record = dict[str, Any]
Number = Annotated[int, typer.Argument(min=1, help="The number that `hsm approve ls` shows.")]


class _Numbers(Commands):
    """``hsm approve 7`` is short for ``hsm approve yes 7``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, ["yes", *args] if args and args[0].isdigit() else args)


app = typer.Typer(
    cls=_Numbers,
    help="Commands that wait for a second person: `hsm approve NUMBER` agrees to one.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Commands that wait for a second person."""


@app.command()
def ls(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that are decided or expired too.")] = False,
    json: Json = False,
) -> None:
    """What waits for a second person."""
    with connect(context) as client:
        found = client.approvals(every=every)
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        [">number", "state", "command", "of", "asked by", "asked", "expires"],
        [
            (
                each["id"],
                each["state"],
                each["command"],
                text.words(each["path"]),
                each["asked_by"],
                text.local(each["asked_at"]),
                text.local(each["expires_at"]),
            )
            for each in found
        ],
    )


@app.command()
def show(context: typer.Context, number: Number, json: Json = False) -> None:
    """One of them with all its parameters."""
    with connect(context) as client:
        found = client.approval(number)
    if json:
        screen.say_json(found)
    else:
        screen.say_record(found)


@app.command("yes")
def agree(
    context: typer.Context,
    number: Number,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask once more.")] = False,
    json: Json = False,
) -> None:
    """Agree to one: shows it, asks once more, and has it executed just as shown."""
    with connect(context) as client:
        found = client.approval(number)
        if not yes:
            screen.say_record(found)
            if not typer.confirm(f"execute {found['command']} as shown?"):
                raise typer.Exit(EXIT_PROBLEM)
        done = client.approve(number, found["digest"])
    if json:
        screen.say_json(done)
        return
    screen.say(f"{text.clean(done['command'])}: done", style="bold")
    screen.say_record(done["answer"])


@app.command()
def refuse(
    context: typer.Context,
    number: Number,
    reason: Annotated[str, typer.Option(help="Why.")],
    json: Json = False,
) -> None:
    """Refuse one, or take your own back."""
    with connect(context) as client:
        done = client.disapprove(number, reason)
    if json:
        screen.say_json(done)
    else:
        screen.say(f"{text.clean(done['command'])}: refused", style="bold")
