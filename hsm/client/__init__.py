"""The control API's counterpart: one typed method for each path, errors as four classes.

Everything returned is what the daemon answered in JSON: times are ISO 8601 in UTC, sizes bytes,
digests hexadecimal. docs/cli.md lists the keys. Each module has the calls about one subject; whoever asks has
them all in one :class:`Client`.
"""

from __future__ import annotations

from hsm.client.approvals import ApprovalCalls
from hsm.client.asking import READ_SECONDS, Record
from hsm.client.audit import AuditCalls
from hsm.client.failures import ApiError, BadRequest, Problem, Refused, Unreachable
from hsm.client.media import MediaCalls
from hsm.client.operators import OperatorCalls
from hsm.client.policies import PolicyCalls
from hsm.client.studies import StudyCalls
from hsm.client.work import WorkCalls
from hsm.transport import Remote

__all__ = ["ApiError", "BadRequest", "Client", "Problem", "Record", "Refused", "Remote", "Unreachable"]


class Client(StudyCalls, MediaCalls, WorkCalls, PolicyCalls, AuditCalls, OperatorCalls, ApprovalCalls):
    """All of them, and the daemon itself."""

    def health(self) -> Record:
        return self._get("/v1/health")

    def status(self) -> Record:
        return self._get("/v1/status")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._ask("GET", "/metrics", READ_SECONDS).text

    def reload(self) -> Record:
        return self._post("/v1/reload")
