"""What is still to be handed out of a retrieve, package by package."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hsm.catalog import placement
from hsm.catalog.placement import PackageRef
from hsm.model import CopyAt, InstanceRef
from hsm.recall import Attachment


@dataclass(slots=True)
class Part:
    """The instances of one package (or the unsealed ones) that are still to be handed out."""

    instances: deque[InstanceRef]
    package: PackageRef | None
    copies: list[CopyAt]
    attachment: Attachment | None = None
    recalls: int = 0
    failure: str = ""
    damaged: int = 0
    """How often what had come was not what is stored."""
    doubted: bool = False
    """What is suspect on a disk was tried, and does not give all of it."""
    staged: bool = False
    """When it was asked for, it lay in the staging area already."""
    tier: str = ""
    """Where it was read from, once something of it was."""

    @property
    def failed(self) -> bool:
        return bool(self.failure)


def parts_of(session: Session, instances: Iterable[InstanceRef]) -> list[Part]:
    """The instances by package, with the copies of each."""
    queued: dict[int | None, deque[InstanceRef]] = {}
    for instance in instances:
        queued.setdefault(instance.package_pk, deque()).append(instance)
    pks = [pk for pk in queued if pk is not None]
    copies = placement.copies(session, pks)
    return [
        Part(each, None, []) if pk is None else Part(each, placement.package(session, pk), copies[pk])
        for pk, each in queued.items()
    ]
