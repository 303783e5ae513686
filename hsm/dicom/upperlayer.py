"""pynetdicom's upper layer (PS3.8), made to survive bad peers.

pynetdicom negotiates and runs the state machine; :func:`harden` exchanges three of its parts,
before its threads start, for subclasses that bound what a peer can make us hold or wait for:

- the socket (:mod:`hsm.dicom.boundedsocket`);
- the state machine: what it cannot digest ends the association instead of its thread;
- the DIMSE provider (:mod:`hsm.dicom.boundeddimse`).
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT

from hsm.dicom.boundeddimse import BoundedDimse, Limits, SendingDimse
from hsm.dicom.boundedsocket import INVALID_PDU, PDU_BYTES_TOLERATED, BoundedSocket
from hsm.dicom.peers import peer_name
from hsm.dicom.sockets import set_options
from hsm.log import get_logger, neutral

if TYPE_CHECKING:
    from pynetdicom.association import Association

log = get_logger(__name__)

_NO_BEGINNING: Final = ("Evt3", "Evt4", "Evt10", "Evt12", "Evt13")
"""PDUs that no association begins with."""


class GuardedStateMachine(StateMachine):
    """The state machine of PS3.8 section 9.2; what breaks it ends its association and no more.

    :param on_nonsense: told once or more often of a peer that sends what makes no sense.
    """

    def __init__(self, dul: Any, on_nonsense: Callable[[], None] = lambda: None) -> None:
        super().__init__(dul)
        self._on_nonsense = on_nonsense

    def do_action(self, event: str) -> None:
        before = self.current_state
        if event == INVALID_PDU or (before == "Sta2" and event in _NO_BEGINNING):
            self._on_nonsense()
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001  whatever a malformed PDU makes its decoder raise
            log.warning(
                "%s sent what cannot be understood: %s", peer_name(self.dul.assoc), neutral(str(error))
            )
            self._on_nonsense()
            self._give_up()
        if before == "Sta2" and self.current_state in ("Sta1", "Sta13"):
            # No association came about. Its thread waits for a request until the ACSE timeout and
            # counts as a peer until then: wake it (None is how it learns of a time-out).
            self.dul.to_user_queue.put(None)
        if self.current_state == "Sta13" and isinstance(self.dul.socket, BoundedSocket):
            # The association is over and only closing is left: do not wait for the rest of a PDU.
            self.dul.socket.part()

    def _give_up(self) -> None:
        dul = self.dul
        sock = dul.socket
        if sock is not None:
            abort = A_ABORT_RQ()
            abort.source, abort.reason_diagnostic = 0x02, 0x00
            sock.send(abort.encode())
            sock._shutdown_socket()
        if self.current_state not in ("Sta1", "Sta2", "Sta3"):
            indication = A_P_ABORT()
            indication.provider_reason = 0x00
            dul.to_user_queue.put(indication)
        dul.assoc.dimse.msg_queue.put((None, None))
        self.current_state = "Sta1"
        dul.kill_dul()


def harden(
    assoc: Association,
    limits: Limits,
    client: socket.socket | None = None,
    on_nonsense: Callable[[], None] = lambda: None,
) -> None:
    """Exchange the parts named above. Call it before the association's threads start.

    :param client: the accepted socket of an acceptor; a requestor's socket is made by its AE.
    :param on_nonsense: told of a peer that sends what makes no sense.
    """
    assoc.dimse = BoundedDimse(assoc, limits) if client is not None else SendingDimse(assoc, limits)
    assoc.dul.state_machine = GuardedStateMachine(assoc.dul, on_nonsense)
    if client is not None:
        set_options(client, assoc.network_timeout or 0)
        assoc.dul.event_queue = queue.Queue()  # the new socket announces itself in it
        bounded = BoundedSocket(assoc, client_socket=client)
        bounded.pdu_bytes_max = max(limits.pdu_bytes + 6, PDU_BYTES_TOLERATED)
        assoc.dul.socket = bounded
