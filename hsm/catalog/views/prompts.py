"""What else has what is asked for: the other copies of what waits for a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from hsm.catalog.details import PASSED
from hsm.catalog.portions import chunks
from hsm.catalog.tables import Copy, Package, Request, Volume
from hsm.catalog.views.common import place_of
from hsm.model import Place
from hsm.states import LIVE_REQUESTS, READABLE_COPIES, RequestKind, RequestState, VolumeState

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
    untried: tuple[int, ...]
    """Those of them for which a person is asked, and was not asked for this one before."""


def others(session: Session, volume_pks: Sequence[int]) -> dict[int, list[Other]]:
    """For each volume that recalls wait for, the other volumes with good copies, by name."""
    there = aliased(Volume)
    rows = session.execute(
        select(Request.volume_pk, Request.pk, Package.pk, Package.size, there.pk, there.name)
        .add_columns(Request.state, Request.detail)
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
    untried: dict[tuple[int, int], list[int]] = defaultdict(list)
    for wanted_pk, request_pk, package_pk, size, volume_pk, name, state, detail in rows:
        if wanted_pk is None:
            continue
        packages[wanted_pk, volume_pk][package_pk] = size
        requests[wanted_pk, volume_pk].append(request_pk)
        if state == RequestState.WAITING and name not in detail.get(PASSED, ()):
            untried[wanted_pk, volume_pk].append(request_pk)
    # Once each: a volume may have what waits for many others.
    volumes = {
        volume.pk: volume
        for some in chunks({pk for _, pk in packages})
        for volume in session.scalars(select(Volume).where(Volume.pk.in_(some)))
    }
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
                tuple(untried[wanted_pk, pk]),
            )
        )
    return found
