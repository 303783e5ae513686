"""What speaks with peers: who listens to them, and what they are sent and told, now and later."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hsm.announce import Announcements
from hsm.clock import unhurried
from hsm.commitment import Commitments
from hsm.daemon.foundation import Foundation
from hsm.daemon.packages import Packages
from hsm.delivery import Deliveries
from hsm.deliverylog import DeliveryLog
from hsm.dicom.availability import Announcer
from hsm.dicom.commit import Reporter
from hsm.dicom.contexts import is_storage_class
from hsm.dicom.deliver import Deliverer
from hsm.dicom.find import handle_find
from hsm.dicom.lookup import CatalogSelect
from hsm.dicom.outbound import Outbound
from hsm.dicom.querynote import QueryNotes
from hsm.dicom.server import DicomServer
from hsm.export.jobs import Exports
from hsm.fullness import is_full
from hsm.receivers import Receivers
from hsm.retrieval import Retrievals


class Peers:
    """:raises ConfigError: a certificate or key of a listener cannot be used."""

    def __init__(self, base: Foundation, packages: Packages, environ: Mapping[str, str]) -> None:
        config, catalog, pools, bell, clock = base.config, base.catalog, base.pools, base.bell, base.clock
        title, reader = base.title, packages.reader
        noted = base.accesses if config.audit.retrieves else None
        self.retrievals = Retrievals(
            catalog, reader, packages.recall, packages.staging, bell, base.history, pools.tiers, noted
        )
        beside = config.staging.path.parent
        self.exports = Exports(catalog, self.retrievals, title, beside / "exports")
        self.deliveries = Deliveries(catalog, bell, DeliveryLog(beside / "deliveries"))
        outbound = self.outbound = Outbound(clock)
        self.deliverer = Deliverer(config.dicom, title, clock, self.retrievals, self.deliveries, outbound)
        goals_of, full = base.policies.goals_of, partial(is_full, pools)
        self.commitments = Commitments(catalog, reader, bell, goals_of, is_storage_class, full)
        self.reporter = Reporter(config.dicom, title, clock, self.commitments, outbound)
        self.announcer = Announcer(config.dicom, title, outbound)
        self.announcements = Announcements(catalog, bell, reader.steady_reach, self.announcer.subscribers)
        notes = QueryNotes(base.accesses.note, clock, identifiers=config.audit.patient_data)
        find = partial(
            handle_find,
            catalog=catalog,
            ae_title=title,
            reach=reader.reach,
            found=base.history.found,
            queried=notes.note if config.audit.notes_queries else None,
        )
        self.dicom = DicomServer(
            config.dicom,
            title,
            packages.ingest,
            CatalogSelect(catalog),
            find,
            self.retrievals,
            self.deliveries,
            self.commitments,
            clock,
            outbound,
            base.refusals.note,
        )
        self.receivers = Receivers(config, self.dicom, environ, unhurried(clock))
