"""The control API as a whole: its listeners, who may come in, and what of it changes at a reload."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from hsm.api.app import build_app
from hsm.api.doors import Doors
from hsm.api.server import ApiServer
from hsm.api.services import Services
from hsm.api.tcp import TcpServer
from hsm.api.twoperson import TwoPerson
from hsm.catalog.access import Note
from hsm.clock import Clock
from hsm.config import ApiConfig, TcpConfig, accepting_api
from hsm.refusals import Refusal
from hsm.tls import warning
from hsm.tokens import Tokens


class ControlApi:
    """A unix socket, and TLS where it is configured.

    :raises ConfigError: a certificate or key cannot be used.
    """

    def __init__(
        self,
        services: Services,
        config: ApiConfig,
        clock: Clock,
        note: Callable[[Refusal], None],
        arrived: Callable[[Note], None] = lambda note: None,
    ) -> None:
        """
        :param note: told who was refused what.
        :param arrived: told who came in with a token.
        """
        self._config = config
        tokens = Tokens(config.tcp.tokens_file) if config.tcp is not None else None
        self.doors = Doors(config.roles, tokens=tokens, clock=clock, note=note, arrived=arrived)
        self.two_person = TwoPerson(services, config.two_person)
        app = build_app(services, self.doors, self.two_person, note)
        self._local = ApiServer(app, config.socket)
        self._remote: TcpServer | None = None
        if config.tcp is not None:
            tcp, context = config.tcp, accepting_api(config.tcp)
            self._remote = TcpServer(app, tcp.listen, tcp.port, context, note)

    def start(self) -> None:
        """:raises ConfigError: a socket or port is taken."""
        self._local.start()
        if self._remote is not None:
            self._remote.start()

    def stop(self) -> None:
        if self._remote is not None:
            self._remote.stop()
        self._local.stop()

    @property
    def address(self) -> str | None:
        """Where other machines connect to; None where they cannot."""
        if self._remote is None or self._config.tcp is None:
            return None
        return f"{self._config.tcp.listen}:{self._remote.port}"

    @staticmethod
    def check(config: ApiConfig) -> None:
        """:raises ConfigError: a reload could not take it over."""
        if config.tcp is not None:
            accepting_api(config.tcp)

    def reload(self, config: ApiConfig) -> ApiConfig:
        """Take over what can be changed while it runs; the settings that are in force then.

        :raises ConfigError: a certificate or key cannot be used; nothing is changed.
        """
        tcp = self._kept(config.tcp)
        if self._remote is not None and tcp is not None:
            self._remote.context = accepting_api(tcp)
            if self.doors.tokens is None or self.doors.tokens.path != tcp.tokens_file:
                self.doors.tokens = Tokens(tcp.tokens_file)
        self.doors.roles = config.roles
        self.two_person.config = config.two_person
        self._config = config.model_copy(update={"socket": self._config.socket, "tcp": tcp})
        return self._config

    def _kept(self, new: TcpConfig | None) -> TcpConfig | None:
        """A listener neither comes, goes nor moves while the daemon runs."""
        old = self._config.tcp
        if old is None or new is None:
            return old
        return new.model_copy(update={"listen": old.listen, "port": old.port})

    def problems(self, now: datetime) -> list[str]:
        """What an administrator should know: a certificate that ends soon, a tokens file that is no use."""
        tcp, tokens = self._config.tcp, self.doors.tokens
        if tcp is None or tokens is None:
            return []
        tokens.look()
        ends = warning(tcp.certificate, now)
        return [f"api.tcp: {text}" for text in (ends, tokens.problem) if text]
