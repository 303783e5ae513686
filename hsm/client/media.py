"""Calls about what packages lie on, and what that lies in."""

from __future__ import annotations

from hsm.client.asking import Asking, Record, given


class MediaCalls(Asking):
    """Pools, volumes, libraries and drives."""

    def pools(self) -> list[Record]:
        """Every pool: what it is, and whether it can be used."""
        return self._list("/v1/pools")

    def pool(self, name: str) -> Record:
        return self._get(f"/v1/pools/{self._name(name)}")

    def test_pool(self, name: str, volume: str = "") -> list[Record]:
        """Write a probe into each volume of a pool, or into one, read it back and delete it."""
        return self._posted(f"/v1/pools/{self._name(name)}/test", **given({"volume": volume}))

    def volumes(
        self, *, pool: str = "", state: str = "", place: str = "", limit: int, offset: int = 0
    ) -> list[Record]:
        return self._list("/v1/volumes", pool=pool, state=state, place=place, limit=limit, offset=offset)

    def volume(self, barcode: str, *, limit: int = 50, offset: int = 0) -> Record:
        return self._get(f"/v1/volumes/{self._name(barcode)}", limit=limit, offset=offset)

    def label(self, barcode: str, pool: str = "", overwrite: str = "") -> Record:
        """Give a volume to a pool; ``overwrite``, its barcode once more, writes over what is on it."""
        more = given({"pool": pool, "overwrite": overwrite})
        return self._post(f"/v1/volumes/{self._name(barcode)}/label", **more)

    def move(self, barcode: str, shelf: str) -> Record:
        return self._post(f"/v1/volumes/{self._name(barcode)}/move", shelf=shelf)

    def retire(self, barcode: str, reason: str = "") -> Record:
        return self._post(f"/v1/volumes/{self._name(barcode)}/retire", **given({"reason": reason}))

    def recycle(self, barcode: str, reason: str = "") -> Record:
        """Let a volume that holds nothing that counts be labelled anew."""
        return self._post(f"/v1/volumes/{self._name(barcode)}/recycle", **given({"reason": reason}))

    def lost(self, barcode: str, reason: str) -> Record:
        """Give a volume up: its copies are lost, and what policy lacks then is copied anew."""
        return self._post(f"/v1/volumes/{self._name(barcode)}/lost", reason=reason)

    def repack(self, *, dry_run: bool = False, **wanted: str | int | bool) -> Record:
        """``barcode``, ``sparse`` (percent), ``suspect`` or ``generation``; with ``pool`` and ``then``."""
        return self._post("/v1/repacks", dry_run=dry_run, **wanted)

    def stop_repack(self, barcode: str) -> Record:
        return self._post(f"/v1/volumes/{self._name(barcode)}/repack/stop")

    def scan(self, barcode: str, *, adopt: bool = False, pool: str = "") -> Record:
        """Read a cartridge's label and index and compare them with the catalog."""
        more = given({"pool": pool})
        return self._post(f"/v1/volumes/{self._name(barcode)}/scan", adopt=adopt, **more)

    def verify(self, barcode: str) -> Record:
        """Queue a read-back of every copy on a volume."""
        return self._post(f"/v1/volumes/{self._name(barcode)}/verify")

    def drain(self, volume: str) -> Record:
        """Begin to empty a volume that needs no drive."""
        return self._post(f"/v1/volumes/{self._name(volume)}/drain")

    def stop_drain(self, volume: str) -> Record:
        """Give a drain up: what has moved stays moved."""
        return self._post(f"/v1/volumes/{self._name(volume)}/drain/stop")

    def mounts(self, *, every: bool = False, limit: int = 50) -> list[Record]:
        """Mount requests: the open ones, or every one."""
        return self._list("/v1/mounts", all="true" if every else "", limit=limit)

    def inventory(self, library: str = "") -> list[Record]:
        return self._posted("/v1/library/inventory", **given({"library": library}))

    def clean(self, library: str, drive: int) -> Record:
        return self._post("/v1/library/clean", library=library, drive=drive)

    def set_drive(self, library: str, drive: int, state: str, reason: str = "") -> Record:
        """Take a drive out of service (``off``) or back into it (``on``)."""
        more = given({"reason": reason})
        return self._post("/v1/library/drive", library=library, drive=drive, state=state, **more)

    def library_report(self, library: str) -> Record:
        """What each drive of a library did with each cartridge, and who is to blame."""
        return self._get(f"/v1/library/{self._name(library)}/report")

    def load(self, barcode: str, drive: int) -> Record:
        return self._post("/v1/library/load", barcode=barcode, drive=drive)

    def unload(self, library: str, drive: int) -> Record:
        return self._post("/v1/library/unload", library=library, drive=drive)

    def export(self, barcode: str, shelf: str) -> Record:
        return self._post("/v1/library/export", barcode=barcode, shelf=shelf)

    def import_(self, barcode: str) -> Record:
        return self._post("/v1/library/import", barcode=barcode)

    def backup_catalog(self, pool: str, keep: int = 0) -> Record:
        """Write a backup of the catalog into a pool, read back; all but the last ``keep`` are dropped."""
        return self._slowly("/v1/catalog/backup", {"pool": pool, "keep": keep})

    def drill(self, sample: int, pool: str = "") -> Record:
        """Try a rebuild with so many volumes."""
        return self._slowly("/v1/catalog/drill", {"sample": sample} | given({"pool": pool}))
