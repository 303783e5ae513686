"""Which daemon a command speaks to, and how its errors become exit codes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from cli import screen
from hsm.client import ApiError, BadRequest, Client, Remote

EXIT_GOOD = 0
EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
EXIT_INTERRUPTED = 130

SOCKET_NAME = "hsm.sock"
DEFAULT_HOME = "var"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that stand before the command."""

    socket: Path | None = None
    by: str = ""
    url: str = ""
    """Of a daemon on another machine; empty for the one on this."""
    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def way(self) -> Path | Remote:
        """To the daemon: ``--url`` counts before sockets.

        :raises ApiError: a URL without a file with a token.
        """
        if not self.url:
            return self.find_socket()
        if self.token_file is None:
            raise BadRequest(
                f"{self.url}: a token is needed",
                "bad input",
                "--token-file FILE, or HSM_TOKEN_FILE; `hsm token new` makes one on the daemon's machine",
            )
        return Remote(self.url, self.token_file, self.ca, self.certificate, self.key)

    def find_socket(self) -> Path:
        """``--socket``, else ``hsm.sock`` in the data folder, else where the configuration says."""
        if self.socket is not None:
            return self.socket.expanduser().absolute()
        home = Path(os.environ.get("HSM_HOME") or DEFAULT_HOME).expanduser().absolute()
        usual = home / SOCKET_NAME
        if usual.exists():
            return usual
        from hsm.offline import control_socket  # reads the configuration: only when it must

        return control_socket(os.environ) or usual


def settings_of(context: typer.Context) -> Settings:
    """The options that stood before the command."""
    return context.obj if isinstance(context.obj, Settings) else Settings()


def connect(context: typer.Context) -> Client:
    """A client of the daemon that the options name; use it as a context manager."""
    settings = settings_of(context)
    return Client(settings.way(), by=settings.by)


class Commands(TyperGroup):
    """A group whose commands end with the agreed exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ApiError as error:
            screen.complain(str(error), error.hint)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            # The reader (head, less) has seen enough. Python would complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_GOOD) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(EXIT_INTERRUPTED) from error
