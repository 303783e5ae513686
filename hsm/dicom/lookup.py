"""From a retrieve's identifier to the instances that it names."""

from __future__ import annotations

from hsm.catalog import retrievable
from hsm.catalog.engine import Catalog
from hsm.dicom.contexts import QUERY_RETRIEVE
from hsm.dicom.query import parse_selection, read_identifier
from hsm.model import InstanceRef


class CatalogSelect:
    """Finds the instances that a C-MOVE or C-GET names (PS3.4 section C.4.2.1.4)."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __call__(
        self, identifier: bytes, transfer_syntax: str, abstract_syntax: str, *, sees_rejected: bool = False
    ) -> list[InstanceRef]:
        """
        :param sees_rejected: whether who asks may see what was rejected for quality reasons.
        :raises BadInput: the identifier is not one of this model and level.
        """
        model, _ = QUERY_RETRIEVE[abstract_syntax]
        selection = parse_selection(read_identifier(identifier, transfer_syntax), model)
        with self._catalog.read() as session:
            return retrievable.select_instances(session, selection, sees_rejected=sees_rejected)
