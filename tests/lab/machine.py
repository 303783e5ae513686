"""Run a command as root inside a small machine with a SCSI tape library.

``python tests/lab/machine.py [options] COMMAND...`` boots Debian's User Mode Linux (a kernel that is an
ordinary process) on this machine's own files: read-only, with what is written kept in RAM and thrown
away. Inside, the set-up brings the devices up, then COMMAND runs in the current folder. The exit status
is the command's; 124: out of time; 125: the set-up failed or the machine died (a crash test's wish);
126: no machine can be started here, and why.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import mmap
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import packages

HOME = Path(__file__).resolve().parent
KERNEL = "linux.uml"
PASSED_ON = ("HSM_", "PYTHON", "PYTEST", "HYPOTHESIS", "LANG", "LC_", "TZ")
"""Beginnings of the variables that the command sees; and CI."""
NOISE = (
    "SELinux: ",
    "mmapper_init",
    "Failed to initialize ubd",
    "Failed to init",
    "sysrq: Power",
    "reboot: Power",
)
OUT_OF_TIME, DIED, CANNOT = 124, 125, 126
HEARD_LINES = 40
"""Of the console, kept for the message when the machine does not start."""


class CannotStart(Exception):
    """User Mode Linux does not run here; says why."""


class SetUpFailed(Exception):
    """The machine runs, but its devices did not come up; carries the set-up's words."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run, and in which machine."""

    command: tuple[str, ...]
    writable: tuple[Path, ...] = ()
    """Folders of this machine that the command may write to; made when absent."""
    limit_seconds: float = 600.0
    memory_mib: int = 2048
    media: Path | None = None
    """Where cartridges are kept between boots; None: in RAM."""
    configuration: Path | None = None
    """Another library than the default one, see tapelib.library.Configuration."""
    setup: str = "library"
    """A file in ``guest``."""

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("no command to run inside")
        if self.memory_mib < 256:
            raise ValueError(f"{self.memory_mib} MiB of memory; 256 is the least that boots")
        if not (HOME / "guest" / self.setup).is_file():
            raise ValueError(f"there is no set-up {HOME / 'guest' / self.setup}")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How it went. ``status`` is the command's, or None when the machine ended before it did."""

    status: int | None
    out_of_time: bool
    ready_seconds: float | None
    """Since boot, when the devices were there."""


def memory_folder(needed: int) -> Path:
    """A folder whose files can be mapped executable and that has room: the machine's memory lies there.

    :raises CannotStart: none of the usual ones will do.
    """
    refused = []
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/var/tmp")):
        try:
            free = shutil.disk_usage(folder).free
            if free < needed:
                raise OSError(f"{free >> 20} MiB free of the {needed >> 20} needed")
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.truncate(mmap.PAGESIZE)
                mmap.mmap(probe.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
        except OSError as error:
            refused.append(f"{folder}: {error}")
        else:
            return folder
    raise CannotStart("no folder can hold the machine's memory: " + "; ".join(refused))


def _environment(plan: Plan) -> str:
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON) or name == "CI"}
    kept |= {"LAB_HOME": str(HOME), "HSM_LAB": os.environ.get("HSM_LAB", "long"), "HOME": "/root"}
    kept["LAB_SETUP"] = plan.setup
    if plan.media is not None:
        kept["LAB_MEDIA"] = str(plan.media.resolve())
    if plan.configuration is not None:
        kept["LAB_CONFIG"] = str(plan.configuration.resolve())
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in kept.items())


def _prepare(plan: Plan, run: Path) -> None:
    """Write what guest/init reads."""
    writable = [*plan.writable, *([plan.media] if plan.media is not None else [])]
    for folder in writable:
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HOME / "guest" / "init", run / "init")
    (run / "env").write_text(_environment(plan))
    (run / "setup").write_text(str(HOME / "guest" / plan.setup))
    (run / "writable").write_text("".join(f"{folder.resolve()}\n" for folder in writable))
    (run / "command").write_text(f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(plan.command)}\n")


def _pass_on(source: int, say: Callable[[str], object]) -> None:
    """Lines of the machine's console, without what the kernel always says."""
    with os.fdopen(source, "r", errors="replace", newline="\n") as lines:
        for line in lines:
            text = line.replace("\r", "")
            if not text.startswith(NOISE):
                say(text)


def _end(process: subprocess.Popen[bytes], run: Path) -> None:
    """Kill what is left of the machine: its kernel's helpers outlive it."""
    groups = {process.pid}
    with contextlib.suppress(OSError, ValueError):
        groups.add(int((run / "uml/lab/pid").read_text()))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    process.wait()


def boot(plan: Plan, say: Callable[[str], object] = sys.stdout.write) -> Ended:
    """Boot, run the command, and wait for the end.

    :raises CannotStart: the kernel did not come as far as its first process.
    :raises SetUpFailed: the devices did not come up.
    """
    kernel = shutil.which(KERNEL, path=packages.PATH)
    if kernel is None:
        raise CannotStart(f"{KERNEL} is not installed (Debian: apt install user-mode-linux)")
    memory = memory_folder(plan.memory_mib << 20)
    run = Path(tempfile.mkdtemp(prefix="lab.", dir="/var/tmp"))
    try:
        (run / "uml").mkdir()
        _prepare(plan, run)
        return _boot(plan, run, [kernel, *_kernel_arguments(plan, run)], memory, say)
    finally:
        shutil.rmtree(run, ignore_errors=True)


def _kernel_arguments(plan: Plan, run: Path) -> list[str]:
    root = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={run}/init"]
    console = ["con=null", "con0=null,fd:1", "ssl=null", "quiet", "loglevel=1"]
    return [f"mem={plan.memory_mib}M", *root, f"LAB_RUN={run}", "umid=lab", f"uml_dir={run}/uml/", *console]


def _boot(plan: Plan, run: Path, command: Sequence[str], memory: Path, say: Callable[[str], object]) -> Ended:
    heard: list[str] = []

    def tell(line: str) -> None:
        if len(heard) < HEARD_LINES:
            heard.append(line)
        if (run / "ready").exists():
            say(line)

    ours, theirs = os.pipe()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TMPDIR": str(memory)},
        start_new_session=True,
    )
    os.close(theirs)
    listener = threading.Thread(target=_pass_on, args=(ours, tell), daemon=True)
    listener.start()
    deadline, out_of_time = time.monotonic() + plan.limit_seconds, False
    try:
        process.wait(plan.limit_seconds)
    except subprocess.TimeoutExpired:
        out_of_time = True
    finally:
        _end(process, run)
    listener.join(max(5.0, deadline - time.monotonic()) if not out_of_time else 5.0)
    if not (run / "started").exists() and not out_of_time:
        raise CannotStart(f"{KERNEL} ended before its first process: {''.join(heard).strip() or 'no word'}")
    if not (run / "ready").exists() and not out_of_time:
        log = run / "setup.log"
        raise SetUpFailed(log.read_text().strip() if log.exists() else "".join(heard).strip())
    status, ready = _number(run / "status"), _number(run / "ready")
    return Ended(None if status is None else int(status), out_of_time, ready)


def end_with_us() -> None:
    """Let a SIGTERM end the machine too, as an interrupt from the keyboard does."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _number(path: Path) -> float | None:
    """What a file of the machine says; None when it had no time to."""
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--writable", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB")
    parser.add_argument("--media", type=Path, metavar="DIR", help="keep cartridges there between boots")
    parser.add_argument("--config", type=Path, metavar="FILE", help="another library, as JSON")
    parser.add_argument("--setup", default="library", help="a file in tests/lab/guest")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    end_with_us()
    plan = Plan(
        command=tuple(given.command),
        writable=tuple(given.writable),
        limit_seconds=given.limit,
        memory_mib=given.memory,
        media=given.media,
        configuration=given.config,
        setup=given.setup,
    )
    try:
        packages.require()
        ended = boot(plan)
    except (packages.Lacking, CannotStart) as error:
        print(f"lab: cannot start: {error}", file=sys.stderr)
        return CANNOT
    except SetUpFailed as error:
        print(f"lab: the set-up failed:\n{error}", file=sys.stderr)
        return DIED
    if ended.out_of_time:
        print(f"lab: not done within {plan.limit_seconds:g} s", file=sys.stderr)
        return OUT_OF_TIME
    return DIED if ended.status is None else ended.status


if __name__ == "__main__":
    sys.exit(main())
