"""What the catalog says of a patient, taken out once the last copy of the study is gone.

UIDs, digests and sizes stay: by them a copy that turns up is known for what it is. So does the journal, which
is append-only, and what manifests on write-once media say.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hsm.catalog import ingest
from hsm.catalog.tables import Patient, Series, Study

REMOVED = "\\removed\\"
"""How the keys of patients begin that stand for nobody."""


def forget(session: Session, study_pk: int) -> bool:
    """Remove patient's and examination's attributes of a study of which nothing is to be seen; False, with
    nothing done, where something is."""
    study = session.get_one(Study, study_pk)
    if study.n_instances:
        return False
    was = study.patient_pk
    nobody = Patient(
        key=f"{REMOVED}{study.uid}",
        patient_id="",
        issuer="",
        name="",
        name_alphabetic="",
        name_ideographic=None,
        name_phonetic=None,
        birth_date="",
        sex="",
    )
    known = session.scalars(select(Patient).where(Patient.key == nobody.key)).one_or_none()
    if known is None:
        session.add(nobody)
        session.flush()
        known = nobody
    texts = ("date", "time", "study_id", "accession", "description", "referring_physician", "institution")
    session.execute(
        update(Study)
        .where(Study.pk == study_pk)
        .values(
            patient_pk=known.pk,
            referring_alphabetic="",
            referring_ideographic=None,
            referring_phonetic=None,
            tags=None,
            **dict.fromkeys(texts, ""),
        )
    )
    session.execute(
        update(Series).where(Series.study_pk == study_pk).values(description="", date="", time="")
    )
    ingest.drop_patient(session, was)
    return True
