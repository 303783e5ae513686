"""``make lab``: every test of the tape library, on devices that the kernel takes for real ones.

``--short`` is for continuous integration: one boot, the contract suites without their longest tests.
Exit status: 0 passed, or skipped with a reason that is printed (a machine where it cannot run; with
HSM_LAB_REQUIRED set this is a failure); otherwise that of what failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Mapping

import machine
import packages

TOP = machine.HOME.parent.parent
LIMIT_SECONDS = {"short": 600.0, "long": 3600.0}
TEST_SECONDS = 2400
"""A system call is slow inside, and so may the machine outside be."""
SHORT_CAMPAIGN = {"HSM_LAB_CUTS": "1", "HSM_LAB_STUDIES_EACH": "12"}
"""One power cut while twelve studies go on tape."""
SKIPPED = "lab: SKIPPED, nothing was tested on tape devices: {}"


@dataclasses.dataclass(frozen=True)
class Part:
    """One pytest process."""

    title: str
    inside: bool
    """In the machine; the others boot machines themselves."""
    arguments: tuple[str, ...]
    setup: str = "library"
    """A file in ``guest``."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Defaults of what changes a campaign; what is set outside goes before."""


def parts(length: str) -> tuple[Part, ...]:
    """The contract suites run with ``HSM_LAB`` set: on the laboratory's devices, and only on them."""
    if length == "short":
        slow = (
            "not (same_trouble or take_turns or same_time or dictionary or exactly_these_bytes"
            " or never_anything_else)"
        )
        # NFS 3: a server of version 4 gives its first lock when its grace time is over.
        disks = "(mid_write and cut and not 4.2) or (quota_leaves and ext4 and 4711) or path_that_is_lost"
        return (
            Part("disks", True, ("tests/lab/disks", "-k", disks), "disks"),
            Part("contracts", True, ("tests/lab/devices/test_lab_double.py", "tests/contract", "-k", slow)),
            Part(
                "archive and power cut",
                False,
                ("tests/lab/power", "-k", "archive and plain"),
                environment=SHORT_CAMPAIGN,
            ),
        )
    return (
        Part("devices", True, ("tests/lab/devices",)),
        Part("contract of libraries", True, ("tests/contract/test_library_contract.py",)),
        Part("troubles", True, ("tests/contract/test_troubles.py",)),
        Part("contract of stores", True, ("tests/contract/test_store_contract.py",)),
        Part("stories", True, ("tests/lab/stories",)),
        Part("archive", True, ("tests/lab/daemon",)),
        Part("two libraries", True, ("tests/lab/otherlibrary",), "library-both"),
        Part("jukebox", True, ("tests/lab/jukebox",), "jukebox"),
        Part("contract of stores on NFS", True, ("tests/contract/test_store_contract.py",), "disks"),
        Part("disks", True, ("tests/lab/disks",), "disks"),
        Part("power cuts", False, ("tests/lab/power",)),
    )


def _pytest(part: Part) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", f"--timeout={TEST_SECONDS}", *part.arguments)


def _run(part: Part, length: str) -> int:
    os.environ["HSM_LAB"] = length
    if not part.inside:
        environment = {**part.environment, **os.environ}
        return subprocess.run(_pytest(part), cwd=TOP, env=environment, check=False).returncode
    if missing := packages.missing_for(part.setup):
        print(f"lab: {part.title}: SKIPPED, not installed: {' '.join(missing)}", file=sys.stderr)
        return machine.CANNOT if os.environ.get("HSM_LAB_REQUIRED") else 0
    plan = machine.Plan(command=_pytest(part), limit_seconds=LIMIT_SECONDS[length], setup=part.setup)
    begun = time.monotonic()
    ended = machine.boot(plan)
    took = time.monotonic() - begun
    print(f"lab: {part.title}: devices ready {ended.ready_seconds} s after boot, done after {took:.0f} s")
    if ended.out_of_time:
        print(f"lab: {part.title}: not done within {plan.limit_seconds:g} s", file=sys.stderr)
        return machine.OUT_OF_TIME
    if ended.status is None:
        print(f"lab: {part.title}: the machine died before the tests ended", file=sys.stderr)
        return machine.DIED
    return ended.status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    length = "short" if parser.parse_args().short else "long"
    os.chdir(TOP)
    machine.end_with_us()
    try:
        packages.require()
        packages.try_for(*(part.setup for part in parts(length)))
        machine.memory_folder(machine.Plan(("true",)).memory_mib << 20)
        failed = 0
        for part in parts(length):
            failed = _run(part, length) or failed
    except (packages.Lacking, machine.CannotStart) as error:
        print(SKIPPED.format(error), file=sys.stderr)
        return machine.CANNOT if os.environ.get("HSM_LAB_REQUIRED") else 0
    except machine.SetUpFailed as error:
        print(f"lab: the devices did not come up:\n{error}", file=sys.stderr)
        return machine.DIED
    return failed


if __name__ == "__main__":
    sys.exit(main())
