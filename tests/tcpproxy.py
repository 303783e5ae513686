"""A TCP proxy that makes the way to a server slow: so many bytes a second on each connection and way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE_BYTES = 16 << 10


class SlowProxy:
    """Listens on a port of its own and passes on to ``upstream`` on this machine, at first at full speed."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._rate = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def slow(self, bytes_per_second: float) -> None:
        """From now on; 0 is as fast as it goes."""
        self._rate = bytes_per_second

    def close(self) -> None:
        """No more connections are taken; those that stand end with their peers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), 5)
        except OSError:  # it is dead: so is the way to it
            client.close()
            return
        server.settimeout(None)
        back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
        back.start()
        self._pass(client, server)
        back.join()
        client.close()
        server.close()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(min(_PIECE_BYTES, int(self._rate / 10) or _PIECE_BYTES)):
                target.sendall(data)
                if self._rate:
                    time.sleep(len(data) / self._rate)
        for each, way in ((source, socket.SHUT_RD), (target, socket.SHUT_WR)):
            with contextlib.suppress(OSError):
                each.shutdown(way)
