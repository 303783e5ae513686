"""The daemon: the only place that builds things and joins them.

:mod:`~hsm.daemon.life` is the order in which an archive starts and stops. Its parts are built in groups, each
on those before it (:mod:`~hsm.daemon.parts`); :mod:`~hsm.daemon.routines` is what is done again and again,
:mod:`~hsm.daemon.reload` what of a new configuration is taken over, :mod:`~hsm.daemon.status` what it says
of itself.
"""

from hsm.daemon.life import Daemon

__all__ = ["Daemon"]
