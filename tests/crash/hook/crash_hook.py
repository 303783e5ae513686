"""Faults at named steps of a real daemon, and a record of what it has flushed.

Loaded into the daemon's processes by tests only (sitecustomize.py, tests/nursery_process.py): nothing in
the product knows of it. It stands between the daemon and ``os.*`` (and, in crash_sqlite.py, between
SQLite and its files). A *step* is a verb and a place: "flush arrival" is an fdatasync or fsync of a file
in ``.incoming``, "link instance" gives a final name, "commit rows" is SQLite's flush of its log, "send
answer" the C-STORE response.

The plan is a JSON file:

``home``, ``catalog``  the daemon's data folder, and its SQLite file
``armed``              nothing happens before this file exists
``fired``              made when the fault happens
``fault``              ``{step, nth, act, when, errno, times}`` or null; act: "kill" (the whole process group)
                       or "error"; when: "before" or "after" the step
``without``            steps that are left out and called done: what a missing flush would be
``record``             a folder: what is durable is recorded there, for tests/crash/power.py; or null
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REAL = {
    name: getattr(os, name)
    for name in (
        "open", "write", "writev", "fsync", "fdatasync", "link", "unlink", "remove",
        "mkdir", "rmdir", "rename", "replace",
    )
}  # fmt: skip
GRAVEYARD = "graveyard"


class Hook:
    """One plan, in one process. Thread-safe."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.home: str = plan["home"]
        self.catalog: str = plan["catalog"]
        self.record: str | None = plan["record"]
        self.without = frozenset(plan["without"])
        self._fault = plan["fault"]
        self._armed_by, self._fired = plan["armed"], plan["fired"]
        self._strangers = plan["strangers"]
        self._armed = False
        self._seen = 0
        self._lock = threading.Lock()
        self._poisoned: set[int] = set()
        self._kept: list[int] = []
        if self.record is not None:
            os.makedirs(f"{self.record}/{GRAVEYARD}", exist_ok=True)
            log = f"{self.record}/{os.getpid()}-{time.monotonic_ns()}.log"
            self._log = REAL["open"](log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    # Faults.

    def step(self, name: str, act: Callable[[], Any], failed: Callable[[], None] | None = None) -> Any:
        """Do a step, or what the plan says of it.

        :param failed: called when the plan makes it fail.
        :raises OSError: the plan says so.
        """
        if name in self.without:
            return None
        fault = self._fault
        if fault is None or fault["step"] != name or not self._hits(fault):
            return act()
        with open(self._fired, "a") as note:
            note.write(f"{name} in {os.getpid()}\n")
        if fault["act"] == "error":
            if failed is not None:
                failed()
            raise OSError(fault["errno"], os.strerror(fault["errno"]))
        result = act() if fault["when"] == "after" else None
        self._die()
        return result

    def _hits(self, fault: dict[str, Any]) -> bool:
        if not self._armed:
            self._armed = os.path.exists(self._armed_by)
            if not self._armed:
                return False
        with self._lock:
            self._seen += 1
            return bool(0 <= self._seen - fault["nth"] < fault["times"])

    def _die(self) -> None:
        """As a crash does it: every process of the daemon, at once."""
        if os.getpgrp() == self._strangers:
            os._exit(99)  # or the tests would die
        os.killpg(os.getpgrp(), signal.SIGKILL)
        time.sleep(60)

    # Places.

    def place(self, path: str) -> str | None:
        """What is at a path, in the words of the steps."""
        if not path.startswith(self.home + "/"):
            return None
        pool, *rest = path[len(self.home) + 1 :].split("/")
        if pool in ("online", "nearline"):
            if rest[:1] == [".incoming"]:
                if rest[1:2] == ["interrupted"]:
                    return "interrupted" if len(rest) > 2 else "interrupted folder"
                if len(rest) == 1:
                    return "incoming folder"
                if rest[1].endswith(".part"):
                    return "arrival"
                return "manifest" if pool == "online" else "copy"
            if path.endswith(".dcm"):
                return "instance"
            return {"online": "folder", "nearline": "copy's folder"}[pool]
        return pool

    def _path(self, target: Any, folder: int | None) -> str:
        if isinstance(target, int):
            return _name_of(target)
        path = os.fsdecode(target)
        if folder is not None and not path.startswith("/"):
            path = f"{_name_of(folder)}/{path}"
        return path

    def _recorded(self, path: str) -> bool:
        return self.record is not None and path.startswith((f"{self.home}/online", f"{self.home}/nearline"))

    # Calls.

    def call(self, verb: str, name: str, target: Any, folder: int | None, args: Any, kwargs: Any) -> Any:
        """A call that only faults are about."""
        act = functools.partial(REAL[name], *args, **kwargs)
        fault = self._fault
        if fault is None or not fault["step"].startswith(verb):
            return act()
        place = self.place(self._path(target, folder))
        return act() if place is None else self.step(f"{verb} {place}", act)

    def flush(self, name: str, fd: int) -> None:
        """fsync or fdatasync, and what it made durable."""
        path = self._path(fd, None)
        place = self.place(path)
        if place is None:
            REAL[name](fd)
            return
        about = os.fstat(fd)
        is_folder = stat.S_ISDIR(about.st_mode)
        step = f"flush {place}"
        at = time.monotonic_ns()
        entries = _entries(fd) if is_folder and self._recorded(path) else None

        def act() -> None:
            REAL[name](fd)
            if entries is not None:
                self._note({"folder": about.st_ino, "at": at, "entries": entries})
            elif self._recorded(path) and about.st_ino not in self._poisoned:
                self._note({"file": about.st_ino, "size": about.st_size})

        def failed() -> None:
            # What could not be written is dropped by the kernel, and the next flush says that all is well.
            if not is_folder:
                self._poisoned.add(about.st_ino)

        self.step(step, act, failed)

    def unlink(self, name: str, path: str, args: Any, kwargs: Any) -> None:
        """A name goes. That it is gone is durable only after a flush: until then the file must be at hand."""

        def act() -> None:
            self._bury(path)
            REAL[name](*args, **kwargs)

        place = self.place(path)
        if place is None:
            REAL[name](*args, **kwargs)
        else:
            self.step(f"unlink {place}", act)

    def rename(self, name: str, old: str, new: str, args: Any, kwargs: Any) -> None:
        def act() -> None:
            self._bury(old)
            self._bury(new)
            REAL[name](*args, **kwargs)

        place = self.place(new)
        if place is None:
            REAL[name](*args, **kwargs)
        else:
            self.step(f"rename {place}", act)

    def rmdir(self, path: str, args: Any, kwargs: Any) -> None:
        if self._recorded(path):
            # So that nothing else gets its number.
            self._kept.append(REAL["open"](path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        REAL["rmdir"](*args, **kwargs)

    def _bury(self, path: str) -> None:
        if not self._recorded(path):
            return
        try:
            number = os.stat(path, follow_symlinks=False).st_ino
            REAL["link"](path, f"{self.record}/{GRAVEYARD}/{number}", follow_symlinks=False)
        except (FileExistsError, FileNotFoundError):
            return

    def _note(self, event: dict[str, Any]) -> None:
        REAL["write"](self._log, json.dumps(event).encode() + b"\n")


def _name_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115  called for every write


def _entries(fd: int) -> dict[str, tuple[int, bool]]:
    with os.scandir(fd) as entries:
        return {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}


def install(plan: str) -> None:
    """Stand between this process and its disk from now on."""
    hook = Hook(json.loads(Path(plan).read_text()))

    def plain(verb: str, name: str, *, by: int = 0, folder: str = "dir_fd") -> None:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return hook.call(verb, name, args[by], kwargs.get(folder), args, kwargs)

        _replace(name, wrapper)

    plain("write", "write")
    plain("write", "writev")
    plain("make", "mkdir")
    plain("link", "link", by=1, folder="dst_dir_fd")

    def opened(*args: Any, **kwargs: Any) -> Any:
        flags = args[1] if len(args) > 1 else kwargs["flags"]
        if not flags & os.O_CREAT:
            return REAL["open"](*args, **kwargs)
        return hook.call("make", "open", args[0], kwargs.get("dir_fd"), args, kwargs)

    def rmdir(*args: Any, **kwargs: Any) -> None:
        hook.rmdir(hook._path(args[0], kwargs.get("dir_fd")), args, kwargs)

    _replace("open", opened)
    _replace("rmdir", rmdir)
    for name in ("fsync", "fdatasync"):
        _replace(name, functools.partial(_flush, hook, name))
    for name in ("unlink", "remove"):
        _replace(name, functools.partial(_unlink, hook, name))
    for name in ("rename", "replace"):
        _replace(name, functools.partial(_rename, hook, name))
    import crash_sqlite

    crash_sqlite.install(hook)
    when_imported("hsm.dicom.lane.wire", lambda module: _tap_answers(hook, module))


def _flush(hook: Hook, name: str, fd: Any) -> None:
    hook.flush(name, fd if isinstance(fd, int) else fd.fileno())


def _unlink(hook: Hook, name: str, *args: Any, **kwargs: Any) -> None:
    hook.unlink(name, hook._path(args[0], kwargs.get("dir_fd")), args, kwargs)


def _rename(hook: Hook, name: str, *args: Any, **kwargs: Any) -> None:
    old = hook._path(args[0], kwargs.get("src_dir_fd"))
    new = hook._path(args[1], kwargs.get("dst_dir_fd"))
    hook.rename(name, old, new, args, kwargs)


def _replace(name: str, wrapper: Any) -> None:
    for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if REAL[name] in known:
            known.add(wrapper)
    setattr(os, name, wrapper)


def _tap_answers(hook: Hook, module: Any) -> None:
    real = module.Wire.send

    def send(self: Any, data: bytes) -> None:
        hook.step("send answer", lambda: real(self, data))

    module.Wire.send = send


def when_imported(name: str, act: Callable[[Any], None]) -> None:
    """Call ``act`` with a module as soon as it is there."""
    if name in sys.modules:
        act(sys.modules[name])
        return

    class Loader(importlib.abc.Loader):
        def __init__(self, real: Any) -> None:
            self.real = real

        def create_module(self, spec: Any) -> Any:
            return self.real.create_module(spec)

        def exec_module(self, module: Any) -> None:
            self.real.exec_module(module)
            act(module)

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, wanted: str, path: Any, target: Any = None) -> Any:
            if wanted != name:
                return None
            spec = importlib.machinery.PathFinder.find_spec(wanted, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = Loader(spec.loader)
            return spec

    sys.meta_path.insert(0, Finder())
