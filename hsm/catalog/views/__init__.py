"""What the control API shows: read-only queries, one function for each screen.

Every function takes a session and returns plain dictionaries. Times in them are aware UTC
datetimes, sizes are bytes, digests are hexadecimal; a key that is documented is always there.
Pages are at most :data:`PAGE_MAX` rows.
"""

from hsm.catalog.views.common import PAGE_MAX, Page, PoolFact, Record
from hsm.catalog.views.media import Asked, asked, mounts, volume, volume_history, volumes, where
from hsm.catalog.views.overview import overview, samples
from hsm.catalog.views.studies import StudyFilter, find_studies, history, locate, study
from hsm.catalog.views.work import decisions, queue, request, runs

__all__ = [
    "PAGE_MAX",
    "Asked",
    "Page",
    "PoolFact",
    "Record",
    "StudyFilter",
    "asked",
    "decisions",
    "find_studies",
    "history",
    "locate",
    "mounts",
    "overview",
    "queue",
    "request",
    "runs",
    "samples",
    "study",
    "volume",
    "volume_history",
    "volumes",
    "where",
]
