"""Two nodes run one policy at the same time, on real databases."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import text

from drivers.base import Capacity, Store
from hsm.bench.archive import Shape, batches
from hsm.bench.fill import fill
from hsm.catalog import placements, runs, selecting
from hsm.catalog.engine import Catalog
from hsm.model import Layout, Tier
from hsm.policyrun import execute
from hsm.policyrun.execute import Execution, Joints, Report
from hsm.pools import DiskPool, Pools
from hsm.wake import Bell
from policies import PolicySet, load_texts

STUDIES = 300
POLICY = """\
policy: race
priority: 1
copies: {nearline: 1}
rules: [{name: all, copy to: nearline}]
"""


class Room:
    def capacity(self) -> Capacity:
        return Capacity(total=1000, free=500)


@pytest.fixture
def pools() -> Pools:
    store = cast(Store, Room())
    tiers = {"online": Tier.ONLINE, "nearline": Tier.NEARLINE}
    disks = {
        name: DiskPool(name, tier, Layout.PACKAGES, Path(), store, number)
        for number, (name, tier) in enumerate(tiers.items(), 1)
    }
    return Pools(disks, {}, {})


@pytest.fixture
def filled(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """Studies that are online only, and pages of twenty."""
    monkeypatch.setattr(selecting.pages, "__defaults__", ((), None, 20))
    shape = Shape(STUDIES, series=1, instances=1, copies=1)
    fill(catalog, (each for each in batches(shape) if each[0] not in ("name", "series", "instance")))
    with catalog.write() as session:
        placements.refresh(session, range(1, STUDIES + 1))
    return catalog


def execution(catalog: Catalog, pools: Pools, worker: str) -> Execution:
    loaded: PolicySet = load_texts({"race.yaml": POLICY}, pools.infos)
    return Execution(Joints(catalog, pools, Bell(), worker), loaded, loaded.policies[0], "test")


def together(executions: list[Execution]) -> list[Report]:
    reports: list[Report] = []
    begin = threading.Barrier(len(executions))

    def run(each: Execution) -> None:
        begin.wait()
        reports.append(each.run())

    threads = [threading.Thread(target=run, args=(each,)) for each in executions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports


def check(catalog: Catalog, reports: list[Report]) -> None:
    with catalog.read() as session:
        count, keys = session.execute(text("SELECT count(*), count(DISTINCT key) FROM request")).one()
        decisions = session.execute(text("SELECT count(*) FROM decision")).scalar_one()
        assert runs.unfinished(session) == []
    assert (count, keys, decisions) == (STUDIES, STUDIES, STUDIES)
    assert sum(report.requests for report in reports) == STUDIES


def test_of_two_nodes_that_begin_at_once_one_runs_and_nothing_is_asked_for_twice(
    filled: Catalog, pools: Pools
) -> None:
    reports = together([execution(filled, pools, name) for name in ("node 1", "node 2")])
    check(filled, reports)


def test_nodes_that_keep_taking_the_run_from_each_other_ask_for_nothing_twice(
    filled: Catalog, pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "LOST_AFTER", execute.timedelta(0))  # each thinks that the other is dead
    reports = together([execution(filled, pools, f"node {number}") for number in range(4)])
    last = execution(filled, pools, "node 9").run()  # whoever lost the run last may have left it
    assert last.state == "finished"
    check(filled, [*reports, last])
