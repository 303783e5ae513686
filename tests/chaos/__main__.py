"""`python -m tests.chaos`: lives of the archive, one seed after the other.

``HSM_CHAOS_SEED`` is the first seed (else chance chooses it), ``HSM_CHAOS_SEEDS`` how many,
``HSM_CHAOS_HOURS`` how long each life is. Each seed that fails is printed with its last steps and with the
command that lives it again. ``HSM_CHAOS_REPORT`` names a file for the figures as JSON, ``HSM_CHAOS_DEFECT``
one of :data:`tests.chaos.chaos_defects.DEFECTS`: it stops at the first seed that finds it. With
``HSM_CHAOS_EVERY=1`` a life ends as soon as each kind of fault was felt.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SHOWN_STEPS = 25


@dataclass
class Lived:
    """What became of one seed."""

    seed: int
    error: str
    digest: str
    steps: int
    last: list[str]
    seconds: float
    injected: Counter[str] = field(default_factory=Counter)
    felt: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)


@functools.cache
def template() -> Path:
    """An empty catalog, made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="hsm-chaos-template-"))
    atexit.register(shutil.rmtree, folder)
    from hsm.catalog.engine import open_engine
    from hsm.catalog.upgrade import upgrade

    path = folder / "template.db"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


def live(seed: int, hours: float) -> Lived:
    """One seed, in this process."""
    from tests.chaos.chaos_defects import planted
    from tests.chaos.chaos_life import Life, Plan

    began = time.process_time()
    every = os.environ.get("HSM_CHAOS_EVERY") == "1"
    with tempfile.TemporaryDirectory(prefix="hsm-chaos-") as name:
        folder = Path(name)
        life = Life(Plan(seed, hours, every), folder, template())
        error = ""
        try:
            with planted(os.environ.get("HSM_CHAOS_DEFECT", "")):
                life.live()
        except Exception:  # noqa: BLE001  whatever ends a life is a finding
            error = life.effects.clean(traceback.format_exc())
        effects = life.effects
        return Lived(
            seed,
            error,
            effects.digest,
            effects.steps,
            list(effects.last),
            time.process_time() - began,
            effects.injected,
            effects.felt,
            effects.checks,
            effects.acts,
        )


def main() -> int:
    """:returns: 0 when every seed kept every promise."""
    given = os.environ.get("HSM_CHAOS_SEED")
    first = int(given) if given else random.SystemRandom().randrange(1 << 31)
    many = int(os.environ.get("HSM_CHAOS_SEEDS", "1"))
    hours = float(os.environ.get("HSM_CHAOS_HOURS", "1"))
    print(f"chaos: {many} seeds from {first}, {hours:g} h each", flush=True)
    failed, total = [], Lived(first, "", "", 0, [], 0.0)
    done = 0
    for seed in range(first, first + many):
        try:
            lived = live(seed, hours)
        except KeyboardInterrupt:
            break  # what was found until now is told
        done += 1
        for name in ("injected", "felt", "checks", "acts"):
            getattr(total, name).update(getattr(lived, name))
        said = "FAILED" if lived.error else "kept"
        print(
            f"seed {seed}: {said}, {lived.steps} steps in {lived.seconds:.1f} s, trace {lived.digest[:16]}",
            flush=True,
        )
        if lived.error:
            failed.append(seed)
            if os.environ.get("HSM_CHAOS_DEFECT"):
                print(lived.error.strip().splitlines()[-1][:300])
                break
            print("\n".join(lived.last[-SHOWN_STEPS:]))
            print(lived.error)
            print(f"again: HSM_CHAOS_SEED={seed} HSM_CHAOS_HOURS={hours:g} make chaos", flush=True)
    report(total, done, failed)
    return 1 if failed else 0


def report(total: Lived, many: int, failed: list[int]) -> None:
    """Seeds, faults by kind, promises by number; as JSON too where ``HSM_CHAOS_REPORT`` names a file."""
    from tests.chaos.chaos_effects import KINDS

    print(f"{many} seeds, {len(failed)} failed{': ' + str(failed) if failed else ''}")
    print(f"{sum(total.injected.values())} faults injected; kind: injected, felt")
    for kind in KINDS:
        print(f"  {kind}: {total.injected[kind]}, {total.felt[kind]}")
    print("promises checked")
    for what in sorted(total.checks):
        print(f"  {what}: {total.checks[what]}")
    path = os.environ.get("HSM_CHAOS_REPORT")
    if path:
        values = {name: dict(getattr(total, name)) for name in ("injected", "felt", "checks", "acts")}
        Path(path).write_text(json.dumps(values | {"seeds": many, "failed": failed}, indent=1))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what is replayed
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.chaos"])
    sys.exit(main())
