"""A process that stores: ``python store_process.py CONFIG_HOME CATALOG_URL SEED STUDIES INSTANCES``.

It says ``ready``, waits for a line, and then stores from two threads; its last line is JSON with how often
each outcome came. Used by test_store_from_processes.py.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from pathlib import Path

from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import SystemClock
from hsm.config import Config
from hsm.errors import Retryable
from hsm.ingest import Ingest
from hsm.opening import open_ingest
from tests.sim.world import EXPLICIT_LITTLE, dataset, header

TRIES = 20


def archive_config(home: Path, url: str) -> Config:
    return Config.model_validate(
        {
            "home": home,
            "source": home / "hsm.yaml",
            "catalog": {"url": url},
            "pools": [{"name": "online", "tier": "online", "options": {"path": str(home / "online")}}],
        }
    )


def main(home: Path, url: str, seed: int, studies: int, instances: int) -> None:
    catalog = Catalog(open_engine(url), SystemClock())
    ingest = Ingest(catalog, open_ingest(archive_config(home, url), catalog), "keep both")
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def store(study: int, number: int) -> None:
        for _ in range(TRIES):
            try:
                outcome = ingest.store(
                    header(study, number), EXPLICIT_LITTLE, dataset(3000, seed + number), f"CT{seed}"
                )
            except Retryable:
                continue
            with lock:
                outcomes[outcome.value] += 1
            return
        with lock:
            outcomes["given up"] += 1

    def run(order: int) -> None:
        for study in range(1, studies + 1):
            for number in range(1, instances + 1)[::order]:
                store(study, number)

    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=run, args=(order,)) for order in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ingest.close()
    catalog.close()
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
