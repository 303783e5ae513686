"""Storage on any server that speaks SFTP (`driver: sftp`): paramiko carries SSH, the rest is here.

``settings`` are the options, checked; ``connect`` is everything about SSH; ``wire`` the packets;
``session`` requests and pipelines; ``pool`` connections and when to try again; ``store`` the Store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivers.base import Family
from drivers.sftp.settings import OPTIONS, REQUIRED, settings

if TYPE_CHECKING:
    from drivers.sftp.store import SftpStore


def open_sftp(options: Mapping[str, Any]) -> SftpStore:
    """A store that connects at its first call.

    :raises Permanent: an option is unusable.
    :raises OperatorNeeded: a secret's file is missing or open to others.
    """
    from drivers.sftp.store import SftpStore

    return SftpStore(settings(options))


FAMILY = Family(name="sftp", options=OPTIONS, required=REQUIRED, open_store=open_sftp, kind="sftp")
