"""``hsm demo``: a guided tour of the whole road, on synthetic studies in an archive of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import screen
from cli.demo_policy import demo_policy
from cli.session import EXIT_PROBLEM

app = typer.Typer(
    help="A guided tour of an archive; `hsm demo policy` compares two policies over a year.",
    invoke_without_command=True,
)
app.command("policy")(demo_policy)


@app.callback()
def demo(
    context: typer.Context,
    pause: Annotated[bool, typer.Option("--pause", help="Wait for Enter after each step.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's data folder behind.")] = False,
) -> None:
    """A guided tour: store, seal, copy, release, shelve, and get it all back. Takes under a minute.

    It runs an archive of its own in a temporary folder and does not touch yours.
    """
    if context.invoked_subcommand is not None:
        return
    from cli.demo_home import DemoError, DemoHome  # heavy: pynetdicom and pydicom
    from cli.demo_peer import Peer, PeerError
    from cli.demo_tour import Tour

    peer = Peer()
    try:
        peer.listen()
        screen.say("Starting an archive of its own for the demo ...")
        with DemoHome(peer.port, keep=keep) as home:
            Tour(home, peer, pause=pause).run()
        if keep:
            screen.say(f"The demo's data is in {home.folder}.")
    except (DemoError, PeerError) as error:
        screen.complain(f"the demo cannot go on: {error}")
        raise typer.Exit(EXIT_PROBLEM) from error
    finally:
        peer.close()
