"""Sequences that peers send, read with pydicom within bounds.

pydicom makes an object of each item, a hundred times as large as an item without content, and inflates
whatever is deflated: so only the sequence that is wanted is given to it, and its items are counted before.
"""

from __future__ import annotations

import io
from typing import Final

from pydicom.filereader import read_sequence
from pydicom.sequence import Sequence

from hsm.dicom.elements import BIG_ENDIAN, Element, elements, tag_text
from hsm.errors import BadInput

SEQUENCE_BYTES_MAX: Final = 16 << 20
_ITEM: Final = {True: b"\xfe\xff\x00\xe0", False: b"\xff\xfe\xe0\x00"}
"""An item's tag, in little endian and in big."""


def find_elements(encoded: memoryview, transfer_syntax_uid: str, *tags: int) -> dict[int, Element]:
    """The top-level elements with these tags.

    :raises BadInput: it is no dataset.
    """
    return {each.tag: each for each in elements(encoded, transfer_syntax_uid, frozenset(tags))}


def read_items(
    element: Element, transfer_syntax_uid: str, items_max: int, bytes_max: int = SEQUENCE_BYTES_MAX
) -> Sequence:
    """The items of a sequence.

    :param items_max: with those of the sequences in it.
    :raises BadInput: it has more, or more bytes, or cannot be read.
    """
    size = len(element.value)
    if size > bytes_max:
        raise BadInput(f"{tag_text(element.tag)} has {size} bytes; at most {bytes_max} are read")
    implicit, little = element.vr in ("", "UN"), transfer_syntax_uid not in BIG_ENDIAN
    value = bytes(element.value)
    items = value.count(_ITEM[little])
    if items > items_max:
        raise BadInput(f"{tag_text(element.tag)} has {items} items; at most {items_max} are read")
    try:
        return read_sequence(io.BytesIO(value), implicit, little, size, "iso8859")
    except Exception as error:  # whatever pydicom makes of what a peer sends
        raise BadInput(f"{tag_text(element.tag)} cannot be read: {error}") from error
