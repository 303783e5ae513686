"""What a reload can take over while the daemon runs, and what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from hsm.config.dicom import DicomConfig
from hsm.config.doors import ListenerConfig
from hsm.config.model import Config

LIVE = (
    "policies",
    "dicom",
    "seal",
    "schedule",
    "history",
    "deletion",
    "operator",
    "audit.summary",
    "log.level",
    "api.roles",
    "api.tcp",
    "api.two_person",
)
"""Settings, and sections of them, that a reload puts into force at once; for DICOM, from the next
association on."""

FIXED = (
    "dicom.listen",
    "dicom.port",
    "dicom.receivers",
    "dicom.tls",
    "dicom.tls.port",
    "dicom.tls.only",
    "api.tcp",
    "api.tcp.listen",
    "api.tcp.port",
)
"""What is fixed all the same: a listening socket that peers are configured for does not move, nor do
the processes that share it come and go."""

_SECRET = ("catalog.url",)
_CHANGED_SHOWN_MAX = 80


def differences_needing_restart(old: Config, new: Config) -> list[str]:
    """The changed settings that only a restart puts into force, such as ``dicom.port: 11112 -> 104``.

    Empty when everything that changed can be taken over while running. ``source`` is not a
    setting and is left out.
    """
    found = [text for name, text in _changes(old, new, "") if not _is_live(name) and name != "source"]
    return found + _moved_listeners(old.dicom.listeners, new.dicom.listeners)


def kept_dicom(old: DicomConfig, new: DicomConfig) -> DicomConfig:
    """The new settings, but for those that need a restart: these are the old ones."""
    stay: dict[str, object] = {name: getattr(old, name) for name in ("listen", "port", "receivers")}
    stay["tls"] = old.tls
    if old.tls is not None and new.tls is not None:
        stay["tls"] = new.tls.model_copy(update={"port": old.tls.port, "only": old.tls.only})
    if old.listeners or new.listeners:
        stay["tls"] = (new.tls or old.tls) if old.listeners and new.listeners else old.tls
        given = {each.name: each for each in new.listeners}
        stay["listeners"] = tuple(_kept_listener(each, given.get(each.name)) for each in old.listeners)
    return new.model_copy(update=stay)


def _kept_listener(old: ListenerConfig, new: ListenerConfig | None) -> ListenerConfig:
    """What may be done through it and by whom, and its certificates, change at once; where it is does not."""
    if new is None or (new.tls is None) != (old.tls is None):
        return old
    return new.model_copy(update={"listen": old.listen, "port": old.port})


def _moved_listeners(old: tuple[ListenerConfig, ...], new: tuple[ListenerConfig, ...]) -> list[str]:
    """What of the listeners needs a restart: their being there, address, port, and whether they speak TLS."""
    before = {each.name: (each.listen, each.port, each.tls is not None) for each in old}
    after = {each.name: (each.listen, each.port, each.tls is not None) for each in new}
    if not before or not after:
        return [] if before == after else ["dicom.listeners: " + ("removed" if before else "added")]
    parts = [f"{name} added" for name in after if name not in before]
    parts += [f"{name} removed" for name in before if name not in after]
    parts += [f"{name} moved" for name in after if name in before and before[name] != after[name]]
    return [f"dicom.listeners: {', '.join(parts)}"] if parts else []


def _is_live(name: str) -> bool:
    return name not in FIXED and any(name == live or name.startswith(live + ".") for live in LIVE)


def _changes(old: BaseModel, new: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    for field in type(old).model_fields:
        before, after = getattr(old, field), getattr(new, field)
        name = prefix + field
        if before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changes(before, after, name + ".")
        elif isinstance(before, tuple) and any(hasattr(item, "name") for item in (*before, *after)):
            yield name, f"{name}: {_named_changes(before, after)}"
        elif isinstance(before, BaseModel) or isinstance(after, BaseModel):
            yield name, f"{name}: {'removed' if after is None else 'added'}"
        else:
            shown = f"{name}: {before} -> {after}"
            secret = name in _SECRET or len(shown) > _CHANGED_SHOWN_MAX
            yield name, f"{name}: changed" if secret else shown


def _named_changes(before: tuple[BaseModel, ...], after: tuple[BaseModel, ...]) -> str:
    """Pools or libraries: which were added, removed or changed; their order counts too."""
    old = {getattr(item, "name", ""): item for item in before}
    new = {getattr(item, "name", ""): item for item in after}
    parts = [f"{name} added" for name in new if name not in old]
    parts += [f"{name} removed" for name in old if name not in new]
    parts += [f"{name} changed" for name in new if name in old and old[name] != new[name]]
    return ", ".join(parts) or "another order"
