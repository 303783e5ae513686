"""The ``hsm`` command: every sub-command in one place."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    approve,
    audit,
    bench,
    catalog,
    config,
    demo,
    export,
    library,
    operator,
    policy,
    policy_simulate,
    pool,
    queue,
    recall,
    serve,
    status,
    study,
    token,
    volume,
)
from cli.session import Commands, Settings

app = typer.Typer(
    name="hsm",
    cls=Commands,
    help="A DICOM archive with hierarchical storage management.",
    epilog="Exit codes: 0 good, 1 problem found, 2 usage, 3 daemon unreachable, 4 refused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hsm {version('hsm-archive')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    socket: Annotated[
        Path | None, typer.Option(envvar="HSM_SOCKET", help="The daemon's control socket.")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="The data folder; its hsm.sock is the control socket. [env: HSM_HOME]"),
    ] = None,
    url: Annotated[
        str, typer.Option(envvar="HSM_URL", help="A daemon on another machine: https://HOST:PORT.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(envvar="HSM_TOKEN_FILE", help="A file with the token for --url.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="HSM_CA", help="PEM: whose certificate the daemon of --url must have."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(envvar="HSM_CERTIFICATE", help="PEM: to show to it where it asks for one.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="HSM_KEY", help="PEM: the private key of --certificate.")
    ] = None,
    by: Annotated[str, typer.Option(help="Your name, for the journal, where several share a login.")] = "",
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A DICOM archive with hierarchical storage management."""
    if home is not None:
        os.environ["HSM_HOME"] = str(home.expanduser().absolute())
    context.obj = Settings(socket, by, url, token_file, ca, certificate, key)


app.command("serve")(serve.serve)
app.command("status")(status.status)
app.command("health")(status.health)
app.command("metrics")(status.metrics)
app.command("stats", hidden=True)(status.metrics)
app.command("recall")(recall.recall)
app.command("export")(export.export)
app.command("reload")(config.reload)
policy.app.command("simulate")(policy_simulate.simulate)
for name, group in (
    ("approve", approve.app),
    ("audit", audit.app),
    ("config", config.app),
    ("study", study.app),
    ("policy", policy.app),
    ("queue", queue.app),
    ("pool", pool.app),
    ("volume", volume.app),
    ("library", library.app),
    ("operator", operator.app),
    ("catalog", catalog.app),
    ("token", token.app),
    ("bench", bench.app),
    ("demo", demo.app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point ``hsm``."""
    for stream in (sys.stdout, sys.stderr):
        # A patient's name in another script must not end a command on an ASCII terminal.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()


def serve_main() -> None:
    """Entry point ``hsmd``: the same as ``hsm serve``."""
    app(["serve", *sys.argv[1:]])
