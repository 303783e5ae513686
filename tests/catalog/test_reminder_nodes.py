"""Several nodes on one catalog: a reminder goes once."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any, cast

from catalog_rows import add_volume

from hsm.catalog import prompts, views
from hsm.catalog.engine import Catalog
from hsm.catalog.views import Page
from hsm.config.operators import ChannelConfig, OperatorConfig
from hsm.operators import Operators, Reminders
from hsm.operators.message import Message
from hsm.wake import Bell


class Desk:
    """What is asked for, without libraries."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def prompts(self, *, every: bool = False, page: Page | None = None) -> list[dict[str, Any]]:
        with self._catalog.read() as session:
            found = views.mounts(session, self._catalog.clock.now(), every=every, page=page)
        return [dict(each) | {"into": "", "alternatives": []} for each in found]


def test_nodes_that_look_at_once_send_one_message_about_all_that_is_due(catalog: Catalog) -> None:
    asked_at = catalog.clock.now() - timedelta(hours=2)
    with catalog.write() as session:
        for number in range(20):
            prompts.ask_for(session, add_volume(session, f"T{number:02}"), 10, asked_at, "hsm")
    config = OperatorConfig.model_validate(
        {
            "channels": [{"name": "pager", "command": {"argv": ["/bin/true"]}}],
            "escalation": [{"after": "1 h", "to": "pager"}],
        }
    )
    sent: list[str] = []

    def note(channel: ChannelConfig, message: Message, now: datetime) -> None:
        sent.extend(each["barcode"] for each in message.data["prompts"])

    gate = threading.Barrier(3)

    def node() -> None:
        desk = cast(Operators, Desk(catalog))
        service = Reminders(catalog, desk, config, "HSM", Bell(), note)
        gate.wait(10)
        service.round()

    threads = [threading.Thread(target=node) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(sent) == [f"T{number:02}" for number in range(20)]
