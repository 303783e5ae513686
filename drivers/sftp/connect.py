"""From settings to a channel that speaks SFTP: TCP, the host's key, ours, the subsystem.

The only place that calls paramiko to connect, and that translates its exceptions.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import logging
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from drivers.errors import OperatorNeeded, Permanent, Retryable
from drivers.sftp.settings import Settings, require_private

WINDOW_BYTES = 8 << 20
"""How much the server may send before we take it; more than one read pipeline holds."""
PACKET_BYTES = 32 << 10
KEEPALIVE_SECONDS = 30
_LOG = "drivers.sftp.paramiko"
# Whatever goes wrong is raised; paramiko's own tracebacks in the daemon's log would say it twice.
logging.getLogger(_LOG).setLevel(logging.CRITICAL + 1)


class PatientSocket:
    """A socket whose ``send`` gives up: paramiko tries a send for ever while the peer takes nothing."""

    def __init__(self, inner: socket.socket, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self._stalled_since: float | None = None

    def send(self, data: bytes) -> int:
        """:raises OSError: ETIMEDOUT: nothing was taken for ``seconds``."""
        try:
            sent = self._inner.send(data)
        except TimeoutError:
            now = time.monotonic()
            if self._stalled_since is None:
                self._stalled_since = now
            elif now - self._stalled_since > self._seconds:
                raise OSError(errno.ETIMEDOUT, "the peer takes nothing") from None
            raise
        self._stalled_since = None
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def connect(settings: Settings) -> paramiko.Channel:
    """A channel with the subsystem ``sftp`` running at its other end, within ``connect_seconds``.

    :raises Retryable: the server cannot be reached, or does not answer in time.
    :raises OperatorNeeded: its key is unknown or changed, or ours is refused.
    """
    with _translated(settings):
        tcp = socket.create_connection((settings.host, settings.port), settings.connect_seconds)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport: Any = None
        try:
            transport = paramiko.Transport(
                PatientSocket(tcp, settings.timeout_seconds),  # type: ignore[arg-type, unused-ignore]
                default_window_size=WINDOW_BYTES,
                default_max_packet_size=PACKET_BYTES,
            )
            transport.set_log_channel(_LOG)
            with _within(settings.connect_seconds, transport):
                return _open_channel(transport, settings)
        except BaseException:
            if transport is not None:
                transport.close()
            tcp.close()
            raise


def _open_channel(transport: Any, settings: Settings) -> paramiko.Channel:
    transport.banner_timeout = transport.auth_timeout = settings.connect_seconds
    known = _known_keys(settings)
    security = transport.get_security_options()
    security.ciphers = [name for name in settings.ciphers if name in security.ciphers] or security.ciphers
    # Ask for a key of a kind that we know, or a server with several shows one that we do not.
    security.key_types = sorted(security.key_types, key=lambda name: _kind(name) not in known)
    transport.start_client(timeout=settings.connect_seconds)
    require_known(transport.get_remote_server_key(), known, settings)
    _authenticate(transport, settings)
    transport.set_keepalive(KEEPALIVE_SECONDS)
    channel: paramiko.Channel = transport.open_session(timeout=settings.connect_seconds)
    channel.invoke_subsystem("sftp")
    channel.settimeout(settings.timeout_seconds)
    return channel


@contextmanager
def _within(seconds: float, transport: Any) -> Iterator[None]:
    """Close the transport after ``seconds``: not every wait of paramiko has a limit of its own."""
    timer = threading.Timer(seconds, transport.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    where = f"connect to {settings.server}"
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise OperatorNeeded(
            f"{where}: the server refuses this user, key or password ({error}); check authorized_keys there"
        ) from error
    except IncompatiblePeer as error:
        raise Permanent(f"{where}: no common algorithm: {error}; see the option ciphers") from error
    except (paramiko.SSHException, EOFError) as error:
        raise Retryable(
            f"{where}: {str(error) or 'the connection was closed'}; no SFTP session within "
            f"{settings.connect_seconds:.0f} s"
        ) from error
    except OSError as error:
        raise Retryable(f"{where}: {error.strerror or error}") from error


def _known_keys(settings: Settings) -> dict[str, Any]:
    """The host's keys by kind, as the known_hosts file has them."""
    try:
        keys = paramiko.HostKeys(str(settings.known_hosts))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OperatorNeeded(
            f"option known_hosts: {settings.known_hosts} cannot be read: {error.strerror}"
        ) from error
    return dict(keys.lookup(settings.known_name) or {})


def require_known(key: Any, known: dict[str, Any], settings: Settings) -> None:
    """:raises OperatorNeeded: the server's key is not one that known_hosts has for it."""
    kind, fingerprint = key.get_name(), _fingerprint(key)
    if kind in known and known[kind].asbytes() == key.asbytes():
        return
    line = f"{settings.known_name} {kind} {key.get_base64()}"
    if known:
        expected = ", ".join(f"{name} {_fingerprint(each)}" for name, each in sorted(known.items()))
        raise OperatorNeeded(
            f"THE HOST KEY OF {settings.known_name} HAS CHANGED: it shows {kind} {fingerprint}, "
            f"{settings.known_hosts} has {expected}. Either the server was set up anew, or somebody stands "
            "between it and us. Nothing was sent. Ask its admin; only if the new fingerprint is right, "
            f"replace its lines in {settings.known_hosts} by: {line}"
        )
    raise OperatorNeeded(
        f"the host key of {settings.known_name} is unknown: it shows {kind} {fingerprint}. Compare that "
        f"with what the server's admin says; if it is right, add this line to {settings.known_hosts}: {line}"
    )


def _fingerprint(key: Any) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _kind(algorithm: str) -> str:
    """The kind of key behind a signature algorithm (RFC 8332 section 3)."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _authenticate(transport: Any, settings: Settings) -> None:
    """Try the key, the agent's keys, the password, in this order, as far as they are configured."""
    refusal: paramiko.AuthenticationException | None = None
    with closing(_keys(settings)) as keys:
        for key in keys:
            try:
                transport.auth_publickey(settings.user, key)
            except paramiko.AuthenticationException as error:
                refusal = error
            if transport.is_authenticated():
                return
    if settings.password is not None:
        transport.auth_password(settings.user, settings.password)
    if not transport.is_authenticated():
        raise refusal or paramiko.AuthenticationException("no key to show")


def _keys(settings: Settings) -> Generator[Any, None, None]:
    if settings.key_file is not None:
        require_private(settings.key_file, "the private key")
        yield _load(settings.key_file, settings.key_passphrase)
    if settings.agent:
        agent = paramiko.Agent()
        try:
            yield from agent.get_keys()
        finally:
            agent.close()


def _load(path: Path, passphrase: str | None) -> Any:
    """The private key in a file, of whatever kind it is."""
    said = []
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key_file(str(path), passphrase)
        except paramiko.PasswordRequiredException as error:
            raise OperatorNeeded(
                f"the private key {path} has a passphrase: give key_passphrase_file or key_passphrase_env"
            ) from error
        except (paramiko.SSHException, ValueError, TypeError, OSError) as error:
            said.append(f"{kind.__name__}: {error}")
    raise OperatorNeeded(
        f"the private key {path} cannot be used, or its passphrase is wrong ({'; '.join(said)})"
    )
