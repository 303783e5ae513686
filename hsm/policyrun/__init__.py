"""Policies in force: their runs turn rules into decisions and decisions into requests.

`service` is what others call; `select` finds a rule's candidates, `ask` turns decisions into requests,
`execute` goes through a policy with a cursor that outlives the daemon, `fills` says how full pools are.
"""

from hsm.policyrun.service import Policies

__all__ = ["Policies"]
