"""Several processes that receive on one DICOM port; the rest of the daemon is there once.

:mod:`~hsm.receivers.crew` starts and watches them in the daemon, :mod:`~hsm.receivers.process` is one
of them. They talk through :mod:`~hsm.receivers.channel`, count associations in
:mod:`~hsm.receivers.tally`, and decide at the :mod:`~hsm.receivers.desk` who serves a connection.
Decision 6 says why it is so.
"""

from hsm.receivers.crew import Receivers

__all__ = ["Receivers"]
