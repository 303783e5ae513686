"""Listeners: a thread each, no signal handlers. Here the one on the unix socket; :mod:`hsm.api.tcp` has the
other."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from hsm.api.identity import PeerProtocol
from hsm.api.protocol import LimitedProtocol
from hsm.errors import ConfigError

SOCKET_MODE = 0o660
"""The daemon's user and group may connect; what they may do then is what their roles allow."""
START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5
CONNECTIONS_MAX = 128


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``; what a dead daemon left there is replaced.

    :raises ConfigError: a live daemon answers there, something else than a socket is there, or the
        folder is missing or not writable.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))
        # Bound but not yet listening: nobody gets in before the mode is right.
        os.chmod(path, 0o600)
        listener.listen(CONNECTIONS_MAX)
        os.chmod(path, SOCKET_MODE)
    except OSError as error:
        listener.close()
        raise ConfigError(f"api.socket {path}: {error.strerror or error}") from error
    except ConfigError:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Remove a socket on which nobody listens."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"api.socket {path}: there is something that is not a socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        status = probe.connect_ex(str(path))
    if status == errno.ECONNREFUSED:
        os.unlink(path)
        return
    if status == errno.ENOENT:
        return
    raise ConfigError(f"api.socket {path}: another daemon answers there; stop it or choose another path")


def settings(app: ASGIApp, protocol: type[LimitedProtocol]) -> uvicorn.Config:
    """What every listener of the API has in common."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who asks is who connected, whatever a header says
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_SECONDS_MAX,
    )


class Running:
    """A uvicorn server on a thread of its own."""

    def __init__(self, server: uvicorn.Server, name: str) -> None:
        self._server = server
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        assert self._listener is not None
        self._server.run(sockets=[self._listener])

    def begin(self, listener: socket.socket) -> bool:
        """Serve on it; whether requests are answered now."""
        self._listener = listener
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(START_SECONDS_MAX / 0.005)):
            if self._server.started:
                return True
            if not self._thread.is_alive():
                break
            waited.wait(0.005)
        return False

    def end(self) -> None:
        """Finish what is being answered, a few seconds at most, and close."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS_MAX + 5.0)
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class ApiServer:
    """Serves ``app`` on ``path`` from :meth:`start` to :meth:`stop`."""

    def __init__(self, app: ASGIApp, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._running = Running(uvicorn.Server(settings(app, PeerProtocol)), "api")

    def start(self) -> None:
        """Listen; returns when requests are answered.

        :raises ConfigError: see :func:`listen`.
        """
        listener = listen(self.path)
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        if self._running.begin(listener):
            return
        self.stop()
        raise ConfigError(f"api.socket {self.path}: the server did not start; the log says why")

    def stop(self) -> None:
        """Finish what is being answered (a few seconds at most), close, remove the socket."""
        self._running.end()
        self._remove()

    def _remove(self) -> None:
        """Remove the socket's file if it is still ours and not a successor's."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)
        self._identity = None
