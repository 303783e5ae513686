"""Which service a request goes to, in place of pynetdicom's own dispatch.

It goes by the message and the kind of its context instead of pynetdicom's list of SOP classes, so that
private and unknown storage classes are served without a process-wide switch, and each service does its own
replies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pynetdicom.association import Association

from hsm.dicom.call import Call
from hsm.dicom.peers import peer_name
from hsm.dicom.services import Services
from hsm.dicom.standing import Standing
from hsm.log import context as log_context
from hsm.log import get_logger

log = get_logger(__name__)

UNRECOGNIZED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212


class Requests:
    """Serves the requests of associations that stand; on their threads.

    :ivar services: those that answer; others after a reload.
    """

    services: Services

    def __init__(
        self,
        standing: Standing,
        rights: Callable[[Association], frozenset[str]],
        refused: Callable[[Association, str, str], None],
    ) -> None:
        """
        :param rights: what the peer of an association may do.
        :param refused: told what it was refused, and why.
        """
        self._standing = standing
        self._rights = rights
        self._refused = refused

    def serve(self, assoc: Association, message: Any, context_id: int) -> None:
        """Handle one DIMSE message; replaces Association._serve_request()."""
        with log_context(peer=peer_name(assoc)):
            self._standing.enter(assoc)
            try:
                self._dispatch(assoc, message, context_id)
            except Exception:
                log.exception("request from %s failed, association aborted", peer_name(assoc))
                assoc.abort()
            finally:
                self._standing.leave(assoc)
                # It counts silence since the peer's last PDU; a peer that waited for a long retrieve
                # was not idle.
                assoc.dul._idle_timer.restart()

    def _dispatch(self, assoc: Association, message: Any, context_id: int) -> None:
        if context_id not in assoc._accepted_cx:
            log.warning(
                "%s uses presentation context %s, which it does not have", peer_name(assoc), context_id
            )
            assoc.abort()
            return
        if message.MessageID is None:
            log.warning("%s sent an unexpected %s", peer_name(assoc), type(message).__name__)
            return
        call = Call(assoc, message, context_id, partial(self._refused, assoc))
        if not message.is_valid_request:
            call.reply(MISTYPED_ARGUMENT)
            return
        service = self.services.of(message, call.abstract_syntax)
        if service is None:
            call.reply(UNRECOGNIZED_OPERATION)
            return
        service.serve(call, self._rights(assoc))
