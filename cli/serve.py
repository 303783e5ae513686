"""``hsm serve``: the daemon in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import screen, text
from cli.session import EXIT_PROBLEM

Record = dict[str, Any]


def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="Without it: $HSM_CONFIG, then hsm.yaml in the data folder, then the default."),
    ] = None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    from hsm.errors import DriverError, HsmError
    from hsm.serve import run  # heavy: only for the command that needs it

    try:
        run(config, os.environ, announce)
    except (HsmError, DriverError) as error:
        screen.complain(str(error))
        raise typer.Exit(EXIT_PROBLEM) from error


def announce(status: Record) -> None:
    """Say what listens where and what to try next; the last line begins with ``ready``.

    :param status: of ``Daemon.status()`` in :mod:`hsm.api.services`.
    """
    for line in announcement(status):
        screen.say(line)
    screen.out().file.flush()


def announcement(status: Record) -> list[str]:
    """The lines of :func:`announce`."""
    listen = status["listen"]
    title, dicom, socket = (text.clean(listen[key]) for key in ("ae_title", "dicom", "api"))
    host, _, port = dicom.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host)
    lines = [f"hsm {text.clean(status.get('version', ''))}".rstrip()]
    lines.append(f"  DICOM    {title} on {dicom}")
    if listen.get("dicom_tls"):
        lines.append(f"  TLS      {title} on {text.clean(listen['dicom_tls'])}")
    lines.append(f"  control  {socket}")
    lines += [f"  {key:<8} {text.clean(status[key])}" for key in ("home", "config") if status.get(key)]
    lines += [f"  problem  {text.clean(problem)}" for problem in status.get("problems", ())]
    lines += [
        "try next",
        f"  echoscu -aec {title} {host} {port}",
        f"  storescu -aec {title} {host} {port} +sd FOLDER",
        f"  hsm --socket {socket} status",
        "  hsm demo",
    ]
    lines.append(f"ready: {title} on {dicom}")
    return lines
