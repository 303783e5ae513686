"""A process that has imported the daemon and forks one whenever it is told to.

A daemon that starts from nothing needs a second and a half for its imports alone, which a test that kills
hundreds of them does not want to wait for. What is forked is a whole daemon process in a process group
of its own, with the hook of hook/crash_hook.py in it.

It reads a JSON object a line: {"start": {config, environ, log}} -> {"pid"}, {"wait": pid} and {"poll": pid}
-> {"status"}, which is null while it runs; waiting is for all processes of its group.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "hook"))

import crash_hook
import crash_sqlite  # noqa: F401  used by the hook, and not to be looked for after the fork

import hsm.dicom.lane.wire
import hsm.serve

PR_SET_CHILD_SUBREAPER = 36


def start(wanted: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(wanted["environ"])
    status = 1
    try:
        crash_hook.install(os.environ["HSM_CRASH_PLAN"])
        hsm.serve.run(Path(wanted["config"]), os.environ, lambda _: None)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_for_all(group: int) -> int | None:
    """The daemon's status; its receivers have ended too."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-group, 0)
            if pid == group:
                found = os.waitstatus_to_exitcode(status)
    return found


def main() -> None:
    # Receivers whose daemon is dead become children of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.freeze()
    started: list[int] = []
    for line in sys.stdin:
        message = json.loads(line)
        if "start" in message:
            started.append(start(message["start"]))
            answer = {"pid": started[-1]}
        elif "wait" in message:
            answer = {"status": wait_for_all(message["wait"])}
            started.remove(message["wait"])
        else:
            pid, status = os.waitpid(message["poll"], os.WNOHANG)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
            if pid:
                wait_for_all(pid)
                started.remove(pid)
        print(json.dumps(answer), flush=True)
    for group in started:  # whoever asked for them has died
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
