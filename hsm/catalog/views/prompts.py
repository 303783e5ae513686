"""What else has what is asked for: the other copies of what waits for a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from hsm.catalog.tables import Copy, Package, Request, Volume
from hsm.catalog.views.common import place_of
from hsm.model import Place
from hsm.states import LIVE_REQUESTS, READABLE_COPIES, RequestKind, VolumeState

_GONE = (VolumeState.LOST, VolumeState.RETIRED)


@dataclass(frozen=True, slots=True)
class Other:
    """A volume that has copies of what waits for another one."""

    name: str
    place: str
    where: str
    site: str
    state: str
    packages: int
    """Of those that wait, how many it has."""
    bytes: int
    requests: tuple[int, ...]
    """The recalls that it could serve."""


def others(session: Session, volume_pks: Sequence[int]) -> dict[int, list[Other]]:
    """For each volume that recalls wait for, the other volumes with good copies, by name."""
    there = aliased(Volume)
    rows = session.execute(
        select(Request.volume_pk, Request.pk, Package.pk, Package.size, there)
        .join(Package, Package.pk == Request.package_pk)
        .join(Copy, Copy.package_pk == Request.package_pk)
        .join(there, there.pk == Copy.volume_pk)
        .where(
            Request.volume_pk.in_(volume_pks),
            Request.kind == RequestKind.RECALL,
            Request.state.in_(LIVE_REQUESTS),
            Copy.volume_pk != Request.volume_pk,
            Copy.state.in_(READABLE_COPIES),
            there.state.not_in(_GONE),
            there.place != Place.UNKNOWN,
        )
        .order_by(there.name, Request.pk)
    )
    packages: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    requests: dict[tuple[int, int], list[int]] = defaultdict(list)
    volumes: dict[int, Volume] = {}
    for wanted_pk, request_pk, package_pk, size, volume in rows:
        if wanted_pk is None:
            continue
        volumes[volume.pk] = volume
        packages[wanted_pk, volume.pk][package_pk] = size
        requests[wanted_pk, volume.pk].append(request_pk)
    found: dict[int, list[Other]] = {pk: [] for pk in volume_pks}
    for (wanted_pk, pk), sizes in packages.items():
        volume = volumes[pk]
        found[wanted_pk].append(
            Other(
                volume.name,
                volume.place,
                place_of(volume),
                volume.site,
                volume.state,
                len(sizes),
                sum(sizes.values()),
                tuple(requests[wanted_pk, pk]),
            )
        )
    return found
