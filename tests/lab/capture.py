"""Record what the real tools say to the real devices, for tests of parsers that run anywhere.

One file a case: the command, its exit status, standard output, standard error. From the checkout's top:

    .venv/bin/python tests/lab/machine.py --writable tests/data/tape \\
        .venv/bin/python tests/lab/capture.py tests/data/tape
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from instruments import (
    EOM,
    OPERATION_MOVE,
    OPERATION_WRITE,
    REWIND,
    WEOF,
    ask,
    changer_device,
    fail,
    generic_of,
    mt,
    mtx,
    opened,
    run,
)

Answer = subprocess.CompletedProcess[str]
MEDIUM_ERROR_WRITE, MECHANICAL_ERROR = (3, 0x0C, 0), (4, 0x15, 1)
READ_ELEMENT_STATUS_DVCID = "b8 10 00 00 ff ff 01 00 ff ff 00 00"


def as_text(answer: Answer) -> str:
    words = " ".join(answer.args)
    return (
        f"$ {words}\nexit status {answer.returncode}\n--- stdout\n{answer.stdout}--- stderr\n{answer.stderr}"
    )


class Recorder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, name: str, answer: Answer) -> None:
        (self._folder / f"{name}.txt").write_text(as_text(answer))


def changer_cases(keep: Callable[[str, Answer], None]) -> None:
    device = changer_device()
    keep("mtx-status-fresh", mtx("status"))
    keep("mtx-inquiry", mtx("inquiry"))
    ask("insert", ie=0, barcode="NEW001L6")
    keep("mtx-status-unit-attention", mtx("status"))
    keep("mtx-load", mtx("load", 1, 0))
    keep("mtx-load-drive-is-full", mtx("load", 2, 0))
    keep("mtx-load-empty-slot", mtx("load", 8, 1))
    keep("mtx-load-no-such-slot", mtx("load", 99, 1))
    keep("mtx-load-no-such-drive", mtx("load", 2, 7))
    keep("mtx-transfer-to-full-slot", mtx("transfer", 2, 3))
    keep("mtx-unload-empty-drive", mtx("unload", 8, 1))
    keep("mtx-transfer-to-mail-slot", mtx("transfer", 2, 10))
    ask("lift", barcode="PAC003L6", quiet=True)
    ask("place", barcode="PAC003L6", element=0x101, quiet=True)  # in a drive, from nowhere
    ask("smudge", barcode="PAC006L6")
    keep("mtx-status-busy", mtx("status"))
    keep("mtx-unload", mtx("unload", 1, 0))
    ask("door", open=True)
    mtx("status")
    keep("mtx-load-door-open", mtx("load", 1, 0))
    ask("door", open=False)
    keep("mtx-status-door-was-closed", mtx("status"))
    fail(OPERATION_MOVE, MECHANICAL_ERROR, device="changer", alerts=[1])
    keep("mtx-load-jammed", mtx("load", 1, 0))
    keep("sg-logs-alerts-of-changer", run("sg_logs", "-p", "0x2e", device))
    keep("sg-inq-serial-of-changer", run("sg_inq", "-p", "0x80", device))
    answer = run("sg_raw", "-r", "4096", device, *READ_ELEMENT_STATUS_DVCID.split())
    keep("sg-raw-read-element-status-dvcid", answer)
    keep("mtx-not-a-changer", run("mtx", "-f", generic_of("nst0"), "status"))
    keep("mtx-no-device", run("mtx", "-f", "/dev/sg99", "status"))


def drive_cases(keep: Callable[[str, Answer], None]) -> None:
    generic = generic_of("nst0")
    keep("mt-status-empty-drive", mt(0, "status"))
    keep("sg-inq", run("sg_inq", generic))
    keep("sg-inq-serial", run("sg_inq", "-p", "0x80", generic))
    mtx("load", 1, 0)
    keep("mt-status-blank", mt(0, "status"))
    keep("mt-seek-past-the-end", mt(0, "seek", 1000))
    keep("mt-fsf-past-the-end", mt(0, "fsf", 3))
    keep("mt-rewind", mt(0, "rewind"))
    with opened(0) as tape:
        for _ in range(3):
            tape.write(bytes(262144))
            tape.operate(WEOF)
    keep("mt-status-after-writing", mt(0, "status"))
    keep("mt-tell", mt(0, "tell"))
    keep("mt-eod", mt(0, "eod"))
    keep("mt-status-end-of-data", mt(0, "status"))
    keep("mt-seek", mt(0, "seek", 2))
    keep("mt-status-after-seek", mt(0, "status"))
    keep("mt-setblk", mt(0, "setblk", 65536))
    keep("mt-status-fixed-blocks", mt(0, "status"))
    keep("mt-compression-off", mt(0, "compression", 0))
    mt(0, "compression", 1)
    mt(0, "setblk", 0)
    for page in ("0x02", "0x03", "0x17", "0x31"):
        keep(f"sg-logs-page-{page}", run("sg_logs", "-p", page, generic))
    keep("sg-logs-no-alerts", run("sg_logs", "-p", "0x2e", generic))
    ask("alert", drive=0, flags=[3, 20, 39])
    keep("sg-logs-alerts", run("sg_logs", "-p", "0x2e", generic))
    fail(OPERATION_WRITE, MEDIUM_ERROR_WRITE, alerts=[3, 6])
    mt(0, "rewind")
    keep("dd-write-error", run("dd", "if=/dev/zero", "of=/dev/nst0", "bs=256k", "count=2"))
    keep("sg-logs-page-0x02-after-write-error", run("sg_logs", "-p", "0x02", generic))
    keep("sg-logs-alerts-after-write-error", run("sg_logs", "-p", "0x2e", generic))
    keep("mt-eject", mt(0, "offline"))
    keep("mt-status-unloaded", mt(0, "status"))
    mtx("unload", 1, 0)


def media_cases(keep: Callable[[str, Answer], None]) -> None:
    for slot, name in ((4, "write-protected"), (5, "worm"), (7, "cleaning")):
        mtx("load", slot, 0)
        keep(f"mt-status-{name}", mt(0, "status"))
        mtx("unload", slot, 0)
    mtx("load", 6, 0)
    keep("dd-end-of-medium", run("dd", "if=/dev/zero", "of=/dev/nst0", "bs=256k"))
    with opened(0, os.O_RDONLY) as tape:
        tape.operate(EOM)
        keep("mt-status-early-warning", mt(1, "status"))
        tape.operate(REWIND)
    keep("mt-status-full-at-start", mt(0, "status"))
    mtx("unload", 6, 0)
    ask("set", drive=0, name="load_seconds", value=3)
    mtx("load", 2, 0)
    keep("mt-status-while-loading", mt(0, "status"))
    ask("set", drive=0, name="load_seconds", value=0)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    keep = Recorder(folder).keep
    for cases in (changer_cases, drive_cases, media_cases):
        ask("reset")
        mtx("status")
        cases(keep)
    keep("lsscsi", run("lsscsi", "-g"))


if __name__ == "__main__":
    main()
