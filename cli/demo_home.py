"""The demo's own archive: a temporary home, a quick configuration, a daemon of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hsm.client import ApiError, Client

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
LOG_LINES_SHOWN = 15

CONFIG = """\
# The demo's archive: as the default configuration, but everything soon.
catalog: {{url: "sqlite:///${{HSM_HOME}}/catalog.db"}}
dicom:
  port: 0
  aes: [{{ae_title: DEMO, host: 127.0.0.1, port: {peer_port}}}]
  retrieve: {{pending_seconds: 0.5, hold_seconds_max: 5 min}}
pools:
  - {{name: online, tier: online, layout: files, options: {{path: "${{HSM_HOME}}/pools/online"}}}}
  - {{name: nearline, tier: nearline, layout: packages, options: {{path: "${{HSM_HOME}}/pools/nearline"}}}}
  - {{name: tape, tier: offline, layout: packages, library: robot}}
libraries:
  - name: robot
    driver: simulated
    options:
      folder: "${{HSM_HOME}}/robot"
      slots: 6
      mail_slots: 2
      drives: 1
      cartridges: 4
      on_shelf: 0
      capacity_bytes: 256 MiB
      time_factor: 0.01
seal: {{quiet_seconds: 1}}
schedule: {{seal_seconds: 0.5, policies_seconds: 3600, inventory_seconds: 3600}}
staging: {{path: "${{HSM_HOME}}/staging", size_max_bytes: 1 GiB}}
policies: policies
log: {{level: info, format: human}}
api: {{socket: "${{HSM_HOME}}/hsm.sock"}}
"""

POLICIES = """\
policy: ct
priority: 10
scope: modality = CT
copies: {tape: 1}            # this must exist, read back, before anything is released
rules:
  - {name: to nearline, copy to: nearline, when: copies(tape) = 0}
  - {name: to tape, copy to: tape}
  - {name: free online, release from: online, when: copies(tape) >= 1}
  - {name: free nearline, release from: nearline, when: copies(tape) >= 1}
schedule: every 1 h
---
policy: others
priority: 20
copies: {nearline: 1}
rules:
  - {name: to nearline, copy to: nearline}
  - {name: free online, release from: online, when: copies(nearline) >= 1}
schedule: every 1 h
"""

OWN_VARIABLES = ("HSM_CONFIG", "HSM_DICOM_PORT", "HSM_DICOM_LISTEN", "HSM_SOCKET", "NOTIFY_SOCKET")
"""What the caller's environment may say about another archive than the demo's."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class DemoHome:
    """A context manager: an archive that runs inside it and leaves nothing behind."""

    def __init__(self, peer_port: int, *, keep: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hsm-demo-"))
        self.client = Client(self.folder / "hsm.sock", by="demo")
        self._keep = keep
        self._peer_port = peer_port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DemoHome:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        config = self.folder / "hsm.yaml"
        config.write_text(CONFIG.format(peer_port=self._peer_port))
        (self.folder / "policies").mkdir()
        (self.folder / "policies" / "demo.yaml").write_text(POLICIES)
        environment = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
        environment["HSM_HOME"] = str(self.folder)
        with open(self.folder / "daemon.log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cli", "serve", "--config", str(config)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the daemon
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            if self._process.poll() is not None:
                raise DemoError(f"the daemon did not start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise DemoError(f"the daemon is not ready after {START_SECONDS_MAX:g} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.client.health()
        except ApiError:
            return False
        return True

    def log_tail(self) -> str:
        """The last lines of the daemon's log."""
        try:
            lines = (self.folder / "daemon.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def close(self) -> None:
        """Stop the daemon and remove the folder, unless it is to be kept."""
        self.client.close()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if not self._keep:
            shutil.rmtree(self.folder, ignore_errors=True)
