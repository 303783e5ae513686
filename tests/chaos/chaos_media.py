"""What lies on the media, read without the archive: folders, and a cartridge's index and image."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivers.folder import INCOMING
from drivers.sentinel import SENTINEL
from hsm.anchor import FOLDER
from hsm.interrupted import INTERRUPTED
from hsm.layout import instance_path, manifest_path
from hsm.marksfile import FOLDER as MARKS


@dataclass(frozen=True, slots=True)
class Place:
    """Where a copy lies, as the catalog has it."""

    volume: str
    uuid: str
    removable: bool
    locator: str


@dataclass(frozen=True, slots=True)
class Member:
    """An instance of a package, as the catalog has it."""

    study: str
    series: str
    uid: str
    version: int
    digest: bytes
    hidden: int = 0
    """The key of the deletion that put it into the trash; 0 for none."""


class Media:
    """All that the archive's media hold.

    :param home: the archive's data folder; the far machines' folders lie beside it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pools = {
            "online": home / "online",
            "nearline": home / "nearline",
            "nas": home.parent / "nas",
            "cloud": home.parent / "bucket",
            "vault": home.parent / "vault",
        }
        self.cartridges = home / "library" / "cartridges"

    def package(self, place: Place) -> bytes | None:
        """The bytes of a copy of the layout `packages`; None where they are not there or not reachable."""
        if not place.removable:
            path = self.pools[place.volume] / place.locator
            return path.read_bytes() if path.is_file() else None
        folder = self.cartridge(place.uuid)
        if folder is None:
            return None
        try:
            index = json.loads((folder / "index.json").read_bytes())
        except (OSError, ValueError):
            return None
        for key, size, _, offset in index["objects"]:
            if key == place.locator:
                with (folder / "image").open("rb") as image:
                    image.seek(offset)
                    return image.read(size)
        return None

    def cartridge(self, uuid: str) -> Path | None:
        """The folder of the cartridge that carries this label, whatever its sticker says."""
        for label in sorted(self.cartridges.glob("*/label.json")):
            if json.loads(label.read_bytes())["uuid"] == uuid:
                return label.parent
        return None

    def online(self, member: Member) -> bytes | None:
        """An instance's file in the pool where received ones go."""
        key = instance_path(member.study, member.series, member.uid, member.version)
        path = self.pools["online"] / key
        return path.read_bytes() if path.is_file() else None

    def interrupted(self) -> set[bytes]:
        """Digests of what a daemon left that died, and the next start takes in."""
        folder = self.pools["online"] / INCOMING
        found = [*folder.glob("*.part"), *(folder / INTERRUPTED).glob("*.part")]
        return {hashlib.sha256(path.read_bytes()).digest() for path in found}

    def strangers(self, expected: dict[str, set[str]]) -> Iterator[str]:
        """Files of the disk pools that nobody knows, by pool."""
        for pool, root in self.pools.items():
            for path in sorted(root.rglob("*")):
                if path.is_dir() or path.name == SENTINEL:
                    continue
                key = str(path.relative_to(root))
                if key.startswith((f"{FOLDER}/", f"{MARKS}/")):
                    continue
                if key.startswith(f"{INCOMING}/"):
                    if path.stat().st_size and pool == "online" and "aside" not in key:
                        yield f"{pool}: {key}"
                elif key not in expected.get(pool, set()):
                    yield f"{pool}: {key}"


def online_keys(package_key: str, study: str, members: list[Member]) -> set[str]:
    """Where a package of the layout `files` lies."""
    return {manifest_path(study, package_key)} | {
        instance_path(each.study, each.series, each.uid, each.version) for each in members
    }


def digests_in(package: bytes) -> dict[str, bytes]:
    """What a package holds, opened with the standard library's tar: name -> SHA-256 of the file.

    :raises AssertionError: its manifest says something else.
    """
    found: dict[str, bytes] = {}
    manifest: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        for number, member in enumerate(tar):
            file = tar.extractfile(member)
            assert file is not None, member.name
            data = file.read()
            if number == 0:
                assert member.name == "manifest.json"
                manifest = _promised(json.loads(data))
            else:
                found[member.name] = hashlib.sha256(data).digest()
    assert {name: digest.hex() for name, digest in found.items()} == manifest
    return found


def _promised(manifest: object) -> dict[str, str]:
    """Name -> SHA-256 of each member, from the manifest, wherever in it they stand."""
    found: dict[str, str] = {}

    def walk(node: object) -> None:
        if isinstance(node, dict):
            name, digest = node.get("path") or node.get("name"), node.get("sha256")
            if isinstance(name, str) and isinstance(digest, str) and name.endswith(".dcm"):
                found[name] = digest
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(manifest)
    return found
