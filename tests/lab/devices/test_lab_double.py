"""The drive without a device (drivers/tape/fake.py) against the kernel's own: same answers, same places.

Unit tests and contract suites rest on the double; where it differs from the real driver, it is wrong.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
from halls import new_process
from instruments import DRIVES, ask

from drivers.tape.fake import FakeDrive, Tape
from drivers.tape.io import Handle, Op

STEPS = 60
SEEDS = range(1, 13)
LONGEST = 6_000
BARCODE = "HSM001L6"

Step = tuple[str, Callable[[Handle], object]]


def some_step(chance: random.Random, written: int) -> Step:
    """A step as a driver takes it, in words and as a call."""
    kind = chance.choice(
        ["write"] * 4 + ["read"] * 4 + ["mark"] * 2 + ["rewind", "end", "seek", "seek", "over", "back"]
    )
    count = chance.randint(1, 3)
    if kind == "write":
        data = chance.randbytes(chance.randint(1, LONGEST))
        return f"write {len(data)}", lambda tape: tape.write(data)
    if kind == "read":
        size = chance.choice((LONGEST, LONGEST, 1_000))
        return f"read {size}", lambda tape: tape.read(size)
    if kind == "mark":
        how = chance.choice((Op.WEOF, Op.WEOFI))
        return f"{how.name} 1", lambda tape: tape.op(how, 1)
    if kind == "seek":
        block = chance.randint(0, written + 2)
        return f"SEEK {block}", lambda tape: tape.op(Op.SEEK, block)
    operation = {"rewind": Op.REWIND, "end": Op.EOM, "over": Op.FSF, "back": Op.BSF}[kind]
    return f"{operation.name} {count}", lambda tape: tape.op(operation, count)


def outcome(tape: Handle, act: Callable[[Handle], object]) -> tuple[object, int]:
    """What came of it, an error by its number, and where the tape stands."""
    try:
        result = act(tape)
    except OSError as error:
        result = errno.errorcode[error.errno or 0]
    return result, tape.tell()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_double_answers_as_the_kernels_driver_does(seed: int) -> None:
    io = new_process()
    ask("reset", cartridges={})
    ask("place", barcode=BARCODE, element=DRIVES)
    fake = FakeDrive()
    fake.load(Tape())
    real, double = io.open("/dev/nst0", write=True), fake.open(write=True)
    chance, told = random.Random(seed), ["REWIND 1"]
    for tape in (real, double):
        tape.op(Op.REWIND)
    for _ in range(STEPS):
        words, act = some_step(chance, real.tell())
        if words.startswith("BSF") and told[-1].startswith("write"):
            continue  # no driver of ours steps back over what it has not closed
        told.append(words)
        there, here = outcome(real, act), outcome(double, act)
        assert here == there, f"seed {seed}: double and device differ after: {'; '.join(told)}"
    io.die()
