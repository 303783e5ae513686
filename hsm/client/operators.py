"""What consoles, scripts and scanners use."""

from __future__ import annotations

from collections.abc import Sequence

from hsm.client.asking import Asking, Record


class OperatorCalls(Asking):
    """What a person is asked for, and the answers."""

    def _prompt(self, barcode: str) -> str:
        return f"/v1/operator/prompts/{self._name(barcode)}"

    def prompts(self, *, every: bool = False, limit: int = 50, offset: int = 0) -> list[Record]:
        """What is asked for, in the order to do it; with ``every`` what was answered too, newest first."""
        return self._list("/v1/operator/prompts", all="true" if every else "", limit=limit, offset=offset)

    def picklist(self) -> Record:
        """at, open, walks: number, stops: site, shelf, items (as :meth:`prompts`)."""
        return self._get("/v1/operator/picklist")

    def acknowledge(self, barcode: str, seconds: int = 0, *, take: bool = False) -> Record:
        """Say that somebody goes for it; ``seconds`` 0: as long as configured. ``take`` it over from
        somebody else."""
        more = {"seconds": seconds} if seconds else {}
        return self._post(f"{self._prompt(barcode)}/ack", take=take, **more)

    def release(self, barcode: str) -> Record:
        """Say that nobody is on the way any more."""
        return self._post(f"{self._prompt(barcode)}/release")

    def answer(
        self,
        barcode: str,
        word: str,
        comment: str = "",
        *,
        id: int = 0,
        site: str = "",
        volume: str = "",
    ) -> Record:
        """``word`` is done, refuse, cannot-find, damaged, wrong-site (with ``site``) or substitute (with
        ``volume``); ``id`` the prompt's that is meant, so that a later one is not answered by mistake."""
        given = {"comment": comment, "id": id, "site": site, "volume": volume}
        return self._post(
            f"{self._prompt(barcode)}/{word}", **{key: value for key, value in given.items() if value}
        )

    def operator_done(self, barcode: str, comment: str = "") -> Record:
        return self.answer(barcode, "done", comment)

    def operator_refuse(self, barcode: str, comment: str) -> Record:
        return self.answer(barcode, "refuse", comment)

    def operator_scan(self, barcode: str) -> Record:
        """verdict (done, put in, again, not wanted, unknown) and text, for whoever holds this cartridge."""
        return self._post("/v1/operator/scan", barcode=barcode)

    # Cartridges on their way

    def movements(self, *, number: int = 0, every: bool = False) -> list[Record]:
        """Of pick list ``number``, or all that are under way, or with ``every`` the last ones."""
        return self._list("/v1/movements", list=number or "", all="true" if every else "")

    def plan_export(
        self,
        barcodes: Sequence[str],
        shelf: str,
        site: str = "",
        *,
        plan: bool = False,
        force: bool = False,
    ) -> list[Record]:
        """Send volumes to a shelf (of a site); ``plan`` only plans, ``force`` lets go what recalls wait for.
        Said again, it goes on with the rest."""
        given = {"barcodes": list(barcodes), "shelf": shelf, "site": site, "plan": plan, "force": force}
        return self._posted("/v1/movements/export", **given)

    def plan_return(self, barcodes: Sequence[str]) -> list[Record]:
        """Plan that volumes come back into their library."""
        return self._posted("/v1/movements/return", barcodes=list(barcodes))

    def movement(self, barcode: str, word: str, comment: str = "", shelf: str = "") -> Record:
        """``word`` is left, arrived (with ``shelf`` where it stands elsewhere than planned) or undo."""
        more = {"shelf": shelf} if shelf else {}
        return self._post(f"/v1/movements/{self._name(barcode)}/{word}", comment=comment, **more)

    def where(self, barcode: str) -> Record:
        """Where a volume is, what it is on its way to, and the journal's last record of it."""
        return self._get(f"/v1/volumes/{self._name(barcode)}/where")

    def volume_history(self, barcode: str, *, limit: int, offset: int = 0) -> list[Record]:
        """The journal's records about a volume, oldest first."""
        return self._list(f"/v1/volumes/{self._name(barcode)}/history", limit=limit, offset=offset)
