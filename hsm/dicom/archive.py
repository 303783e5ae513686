"""The DICOM server of an archive: finds and selects in its catalog."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from hsm.catalog.engine import Catalog
from hsm.catalog.find import select_instances
from hsm.clock import Clock
from hsm.config import DicomConfig
from hsm.dicom.contexts import QUERY_RETRIEVE
from hsm.dicom.find import handle_find
from hsm.dicom.query import parse_selection, read_identifier
from hsm.dicom.retrieve import Deliveries, Retrievals
from hsm.dicom.search import Response
from hsm.dicom.server import DicomServer
from hsm.dicom.store import Ingest
from hsm.model import InstanceRef, Tier


def archive_server(
    config: DicomConfig,
    ae_title: str,
    ingest: Ingest,
    catalog: Catalog,
    retrievals: Retrievals,
    deliveries: Deliveries,
    tiers: Mapping[str, Tier],
    clock: Clock,
) -> DicomServer:
    """A server on ``catalog``, not started yet."""

    def find(event: Any) -> Generator[Response, None, None]:
        yield from handle_find(event, catalog, ae_title, tiers)

    def select(identifier: bytes, transfer_syntax: str, abstract_syntax: str) -> list[InstanceRef]:
        model, _ = QUERY_RETRIEVE[abstract_syntax]
        selection = parse_selection(read_identifier(identifier, transfer_syntax), model)
        with catalog.read() as session:
            return select_instances(session, selection)

    return DicomServer(config, ae_title, ingest, select, find, retrievals, deliveries, clock)
