"""Unix sockets whose paths are longer than a socket address holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PATH_BYTES_MAX = 107
"""unix(7): ``sun_path`` holds 108 bytes and ends with a zero."""


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, valid inside the context.

    A path that is too long is reached through a descriptor of its folder (Linux's ``/proc``).

    :raises OSError: the folder of a long path cannot be opened.
    """
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
