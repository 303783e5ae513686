"""A catalog from the media alone (promise 5): labels, manifests and, where nothing else says it, instances.

:class:`Rebuild` fills an empty catalog.
"""

from __future__ import annotations

from hsm.rebuild.compare import MediaCheck as MediaCheck
from hsm.rebuild.drill import Drills as Drills
from hsm.rebuild.run import Rebuild as Rebuild
from hsm.rebuild.values import Progress as Progress
from hsm.rebuild.values import Report as Report
from hsm.rebuild.values import Standing as Standing
