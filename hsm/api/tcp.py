"""The listener for other machines: TCP, and on it nothing but TLS.

Connections are accepted and shaken hands with here, not by uvicorn, for three reasons: certificates can be
replaced while it runs, a handshake that fails is told to the journal, and nobody takes all the handshakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from hsm.api.protocol import CONNECTIONS_OF_ONE_MAX, LimitedProtocol
from hsm.api.server import CONNECTIONS_MAX, Running, settings
from hsm.errors import ConfigError
from hsm.lockout import counted_by
from hsm.log import get_logger
from hsm.refusals import Refusal

log = get_logger(__name__)

DOOR: Final = "api tcp"
HANDSHAKE_SECONDS: Final = 10.0
ACCEPT_AGAIN_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class TcpPeer:
    """Where a connection over TLS comes from."""

    address: str
    port: int


class TcpProtocol(LimitedProtocol):
    """HTTP/1.1 over TLS, with the :class:`TcpPeer` as ``peer`` of ``scope["state"]``."""

    _address = ""

    def peer_key(self) -> Hashable:
        return self._address or None

    def learn_peer(self, transport: asyncio.BaseTransport) -> None:
        name = transport.get_extra_info("peername")
        if name and transport.get_extra_info("ssl_object") is not None:
            self._address = counted_by(name[0])
            self.app_state = {**self.app_state, "peer": TcpPeer(name[0], name[1])}


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, context: Callable[[], ssl.SSLContext], note: Callable[[Refusal], None]
    ) -> None:
        super().__init__(config)
        self._context = context
        self._note = note
        self._shaking: Counter[str] = Counter()
        self._accepting: list[asyncio.Task[None]] = []
        self._hands: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers = []
        self._accepting = [asyncio.create_task(self._accept(each)) for each in sockets or ()]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waited = [*self._accepting, *self._hands]
        for task in waited:
            task.cancel()
        await asyncio.gather(*waited, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or the other side was quicker
                log.warning("control API: cannot accept a connection: %s", error.strerror or error)
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            key = counted_by(address[0])
            if self._shaking.total() >= CONNECTIONS_MAX or self._shaking[key] >= CONNECTIONS_OF_ONE_MAX:
                client.close()
                continue
            self._shaking[key] += 1
            task = asyncio.create_task(self._shake(client, address, key))
            self._hands.add(task)
            task.add_done_callback(self._hands.discard)

    async def _shake(self, client: socket.socket, address: tuple[str, int], key: str) -> None:
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                client,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=1.0,
            )
        except ssl.SSLError as error:
            reason = f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
            self._note(Refusal("", DOOR, "connect", reason, address[0]))
        except OSError as error:  # gone, or it never began to speak
            log.debug("control API: %s went away before it was secure: %s", address[0], error)
        finally:
            self._shaking[key] -= 1
            if not self._shaking[key]:
                del self._shaking[key]

    def _protocol(self) -> asyncio.Protocol:
        return TcpProtocol(self.config, self.server_state, self.lifespan.state)


class TcpServer:
    """Serves ``app`` over TLS from :meth:`start` to :meth:`stop`.

    :ivar context: for connections from now on; may be replaced.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        context: ssl.SSLContext,
        note: Callable[[Refusal], None] = lambda refusal: None,
    ) -> None:
        self.context = context
        self._host = host
        self._wanted = port
        self.port = port
        self._running = Running(
            _Server(settings(app, TcpProtocol), lambda: self.context, note), "api over TLS"
        )

    def start(self) -> None:
        """Listen; returns when requests are answered, and ``port`` is the one that was taken.

        :raises ConfigError: the address or port cannot be had.
        """
        try:
            listener = _listen(self._host, self._wanted)
        except OSError as error:
            raise ConfigError(
                f"api.tcp {self._host} port {self._wanted}: {error.strerror or error}"
            ) from error
        self.port = listener.getsockname()[1]
        if not self._running.begin(listener):
            self.stop()
            raise ConfigError(f"api.tcp port {self.port}: the server did not start; the log says why")

    def stop(self) -> None:
        """Finish what is being answered, a few seconds at most, and close."""
        self._running.end()


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind(address)
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
