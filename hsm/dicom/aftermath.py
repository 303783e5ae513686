"""What an association that is over still holds is let go at once.

pynetdicom's association, its upper layer, its services and its threads refer to each other in circles: when
an association has ended they stay until Python's collector comes by, which is after hundreds of others. Each
would hold what its peer had sent and nobody read: up to 64 MiB of a message that was begun.
"""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING, Any

from hsm.dicom.boundedsocket import BoundedSocket

if TYPE_CHECKING:
    from pynetdicom.association import Association


def leave_nothing(assoc: Association) -> None:
    """Have it let go of what it holds when it ends. Call it before its threads start."""
    run = assoc.run

    def run_and_let_go() -> None:
        try:
            run()
        finally:
            let_go(assoc)

    setattr(assoc, "run", run_and_let_go)  # noqa: B010


def let_go(assoc: Association) -> None:
    """Forget what came and was not read. The association must be over."""
    dul = assoc.dul
    assoc.dimse.message = None
    if isinstance(dul.socket, BoundedSocket):
        dul.socket.take_held()
    waiting: queue.Queue[Any]
    for waiting in (assoc.dimse.msg_queue, dul._recv_pdu):
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
