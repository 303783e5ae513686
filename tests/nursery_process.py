"""A process that has imported ``hsm`` and forks one whenever it is told to.

Its arguments are the descriptor of a socket, and, for tests that need it, the folder of the crash hook.
Over the socket come JSON objects: ``{"start": words, "environ", "cwd"}`` with the descriptors of stdin,
stdout and stderr -> ``{"pid"}``; ``{"wait": pid, "all": bool}`` -> ``{"status"}`` once the process has ended,
with ``all`` every process of its group. See tests/nursery.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import cli.main
import hsm.dicom.lane.wire
import hsm.serve  # noqa: F401  what a daemon needs, before it is forked

PR_SET_CHILD_SUBREAPER = 36
MESSAGE_BYTES_MAX = 1 << 17
FORKED: list[Any] = []
"""In a forked process: what it is to be."""


def wait_for(pid: int, everybody: bool) -> int:
    """The exit status of ``pid``, as :mod:`subprocess` gives it."""
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ChildProcessError):
        while everybody:
            os.waitpid(-pid, 0)
    return os.waitstatus_to_exitcode(status)


def serve(control: socket.socket) -> None:
    """Until nobody asks any more, or, in a forked process, at once."""
    started: set[int] = set()
    while True:
        data, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 3)
        if not data:
            break
        message = json.loads(data)
        if "start" in message:
            pid = os.fork()
            if not pid:
                control.close()
                FORKED.extend([message, files])
                return
            started.add(pid)
            answer = {"pid": pid}
        else:
            answer = {"status": wait_for(message["wait"], message["all"])}
            started.discard(message["wait"])
        for file in files:
            os.close(file)
        control.sendall(json.dumps(answer).encode())
    for group in started:  # whoever asked for them has ended
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def become(message: dict[str, Any], files: Sequence[int]) -> None:
    """Be ``hsm`` with these words, as if started anew."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(message["environ"])
    os.chdir(message["cwd"])
    sys.argv = ["hsm", *message["start"]]
    sys.modules["__main__"].__package__ = None  # its name in messages
    if "HSM_CRASH_PLAN" in os.environ:
        sys.modules["crash_hook"].install(os.environ["HSM_CRASH_PLAN"])
    cli.main.main()


def main() -> None:
    # Receivers whose daemon is dead become children of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if len(sys.argv) > 2:
        sys.path.insert(0, sys.argv[2])
        import crash_hook  # noqa: F401
        import crash_sqlite  # noqa: F401  used by the hook, and not to be looked for after the fork
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    if FORKED:
        become(*FORKED)


if __name__ == "__main__":
    main()
