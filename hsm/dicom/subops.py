"""C-STORE sub-operations: instances sent to a peer as they are stored, PS3.4 annexes B and C.

:class:`Destination` sends over associations of its own (C-MOVE, later deliveries),
:class:`SameAssociation` over the one that a C-GET came on. Dataset bytes go out untouched unless
the peer accepts no stored transfer syntax (:mod:`hsm.dicom.transcode`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pynetdicom import build_context

from hsm.clock import Clock
from hsm.config import AeConfig, DicomConfig
from hsm.dicom.call import Call
from hsm.dicom.contexts import Proposal, plan_associations
from hsm.dicom.outbound import Gate, Outbound
from hsm.dicom.peers import gone
from hsm.dicom.requestor import Unreachable, associate, named, sending_ae
from hsm.dicom.sendahead import Ahead, Source
from hsm.dicom.sendhold import Lost
from hsm.dicom.sendline import LOOK_SECONDS, Line, Originator, SubOperation, Verdict
from hsm.log import get_logger
from hsm.model import InstanceRef
from hsm.retrieval import Readable, Unobtainable

log = get_logger(__name__)

IDLE_SECONDS: Final = 10.0
"""A destination's association is released when nothing was sent for so long: it may wait for tape."""
SILENT_MAX: Final = 3
"""After so many instances in a row without an answer, each tried twice, a peer is as good as down."""


class SameAssociation:
    """Sends on the association that a C-GET came on, PS3.4 section C.4.3."""

    def __init__(self, call: Call) -> None:
        self._line = Line(call.assoc, as_acceptor=True)

    def held_up(self) -> str:
        """Never: whoever asks over its own association decides how fast it takes what it asked for."""
        return ""

    def pause_seconds(self) -> float:
        return 0.0

    def send(self, item: Readable) -> SubOperation:
        """:raises Unreachable: the caller is gone, or does not answer (then it is aborted)."""
        assoc = self._line.assoc
        try:
            return self._line.send(item, None)
        except Lost as error:
            self._line.hold.let_go()
            if not gone(assoc):
                assoc.abort()
            raise Unreachable(str(error)) from error

    def rest(self) -> None:
        """Nothing can be sent now: pynetdicom listens to the caller."""
        self._line.hold.let_go()

    def close(self) -> None:
        """The association remains the caller's."""
        self._line.hold.close()


@dataclass(slots=True)
class _Plan:
    groups: list[tuple[Proposal, ...]]
    group_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, group in enumerate(self.groups):
            self.group_of.update(dict.fromkeys((each.abstract_syntax for each in group), number))


class Destination:
    """Sends to a configured AE over associations opened when the first instance is there."""

    def __init__(
        self,
        peer: AeConfig,
        our_ae_title: str,
        config: DicomConfig,
        clock: Clock,
        instances: Sequence[InstanceRef],
        originator: Originator | None,
        gate: Gate | None = None,
    ) -> None:
        """
        :param gate: what the peer may be sent at the same time; without it as much as it takes.
        """
        self._peer = peer
        self._gate = gate or Outbound(clock).gate(peer)
        self._silent = 0
        """Instances in a row for which no association gave an answer."""
        self._config = config
        self._clock = clock
        self._originator = originator
        self._plan = _Plan(
            plan_associations((each.sop_class_uid, each.transfer_syntax_uid) for each in instances)
        )
        self._lines: dict[int, Line] = {}
        self._last_used = clock.monotonic()
        self._ae = sending_ae(our_ae_title, config)

    def held_up(self) -> str:
        """Why nothing can be sent just now: the peer has as many associations as it may. Or empty."""
        return "" if self._lines else self._gate.full()

    def pause_seconds(self) -> float:
        """Until the next instance may be sent: the peer has had as much as it may for now."""
        return self._gate.pause_seconds()

    def send(self, item: Readable) -> SubOperation:
        """Send one instance; an association that broke is made anew once.

        :raises Unreachable: no association can be had, or several instances in a row got no answer.
        """
        group = self._plan.group_of[item.instance.sop_class_uid]
        reason = ""
        for _ in range(2):
            line = self._lines.get(group)
            if line is None or gone(line.assoc):
                self._drop(group)
                line = self._lines[group] = self._open(group)
            try:
                outcome = line.send(item, self._originator)
                self._silent = 0
                self._gate.sent(item.instance.size)
                return outcome
            except Lost as error:
                reason = str(error)
                log.warning("%s: %s while sending %s", self._name(), reason, item.instance.sop_instance_uid)
                line.hold.let_go()
                line.assoc.abort()
                self._drop(group)
            finally:
                self._last_used = self._clock.monotonic()
        self._silent += 1
        if self._silent >= SILENT_MAX:
            self._gate.unreachable()
            raise Unreachable(f"{self._name()}: {reason}, {self._silent} instances in a row")
        return SubOperation(Verdict.FAILED, reason, passing=True)

    def rest(self) -> None:
        """Called while nothing can be sent: long silence would make the destination hang up."""
        for line in self._lines.values():
            line.hold.let_go()
        if self._lines and self._clock.monotonic() - self._last_used > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """Release what is open; nobody waits until it is."""
        for line in self._lines.values():
            line.hold.close()
            threading.Thread(target=line.assoc.release, name="release", daemon=True).start()
            self._gate.leave()
        self._lines.clear()

    def _drop(self, group: int) -> None:
        if self._lines.pop(group, None) is not None:
            self._gate.leave()

    def _open(self, group: int) -> Line:
        contexts = [
            build_context(each.abstract_syntax, list(each.transfer_syntaxes))
            for each in self._plan.groups[group]
        ]
        if self._gate.enter():
            self.close()  # another of our own is in the way, or somebody was quicker
            if why := self._gate.enter():
                raise Unreachable(f"{self._name()}: {why}")
        try:
            assoc = associate(self._ae, self._peer, self._config, contexts)
        except BaseException as error:
            self._gate.leave()
            if isinstance(error, Unreachable) and error.down:
                self._gate.unreachable()
            raise
        self._gate.reached()
        return Line(assoc, as_acceptor=False)

    def _name(self) -> str:
        return named(self._peer)


PATIENCE_SECONDS: Final = 3.0
"""How long a delivery keeps its worker while nothing can be read."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What a delivery achieved."""

    delivered: int
    failed: tuple[tuple[str, str], ...]
    """SOP Instance UID and reason of each instance that the destination or the archive refused."""
    unreachable: str = ""
    """Why the destination could not be reached; the rest should be tried again later. Or empty."""
    refused: str = ""
    """Why the destination took instances not now, though perhaps later. Or empty."""
    stopped: bool = False
    """Whether it was told to stop before it was through."""
    waiting: bool = False
    """Whether it ended because nothing more could be read for a while."""
    held_up: str = ""
    """Why nothing could be sent for a while. Or empty."""


def deliver(
    destination: Destination,
    source: Source,
    stop: Callable[[], bool],
    on_delivered: Callable[[str], None],
    monotonic: Callable[[], float],
) -> DeliveryResult:
    """Send everything that ``source`` brings, until nothing came for :data:`PATIENCE_SECONDS`.

    :param stop: asked between instances and several times a second while waiting.
    :param on_delivered: called with each SOP Instance UID that the destination has.
    """
    delivered = 0
    failed: list[tuple[str, str]] = []
    refused = ""
    source = Ahead(source)
    since = monotonic()
    try:
        while source.remaining:
            if stop():
                return DeliveryResult(delivered, tuple(failed), refused=refused, stopped=True)
            item = source.next(LOOK_SECONDS)
            if item is None and not source.reading and monotonic() - since >= PATIENCE_SECONDS:
                return DeliveryResult(delivered, tuple(failed), refused=refused, waiting=True)
            if item is None:
                destination.rest()
                continue
            uid = item.instance.sop_instance_uid
            if isinstance(item, Unobtainable):
                failed.append((uid, item.reason))
                continue
            try:
                if why := _held_up(destination, stop, monotonic):
                    return DeliveryResult(delivered, tuple(failed), refused=refused, held_up=why)
                if stop():
                    return DeliveryResult(delivered, tuple(failed), refused=refused, stopped=True)
                outcome = destination.send(item)
            finally:
                item.content.close()
                since = monotonic()
            if outcome.verdict is Verdict.FAILED and outcome.passing:
                refused = refused or f"{uid}: {outcome.reason}"
            elif outcome.verdict is Verdict.FAILED:
                failed.append((uid, outcome.reason))
            else:
                delivered += 1
                on_delivered(uid)
    except Unreachable as error:
        return DeliveryResult(delivered, tuple(failed), str(error), refused)
    finally:
        source.close()
        destination.close()
    return DeliveryResult(delivered, tuple(failed), refused=refused)


def _held_up(destination: Destination, stop: Callable[[], bool], monotonic: Callable[[], float]) -> str:
    """Wait until the destination may be sent more; why it may not, when that takes too long."""
    begun = monotonic()
    while not stop():
        why, pause = destination.held_up(), destination.pause_seconds()
        if not why and pause <= 0:
            return ""
        if why and monotonic() - begun >= PATIENCE_SECONDS:
            return why
        time.sleep(min(pause or LOOK_SECONDS, LOOK_SECONDS))
    return ""
