"""Synthetic studies for the demo: small, valid, and nobody's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIDE = 256
"""Pixels along each side of an image."""


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study: what it is called on the screen, its UID, its instances."""

    title: str
    uid: str
    modality: str
    instances: tuple[Dataset, ...]


def make_studies(now: datetime) -> tuple[DemoStudy, DemoStudy]:
    """A CT that will go to tape and shelf, and an MR that will stay on slow disk."""
    ct = _study("CT of the chest", "CT", CTImageStorage, "DEMO^ADA", "DEMO-1", 12, now)
    mr = _study("MR of the knee", "MR", MRImageStorage, "DEMO^GRACE", "DEMO-2", 8, now)
    return ct, mr


def _study(
    title: str, modality: str, sop_class: str, name: str, patient_id: str, count: int, now: datetime
) -> DemoStudy:
    study_uid, series_uid = generate_uid(), generate_uid()
    instances = []
    for number in range(1, count + 1):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = sop_class, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.PatientName, image.PatientID, image.PatientSex = name, patient_id, "F"
        image.PatientBirthDate = "19700101"
        image.StudyDate, image.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
        image.StudyID, image.AccessionNumber = "1", f"A-{patient_id}"
        image.StudyDescription = title
        image.Modality, image.SeriesNumber, image.InstanceNumber = modality, 1, number
        image.SpecificCharacterSet = "ISO_IR 192"
        _add_pixels(image, number)
        instances.append(image)
    return DemoStudy(title, study_uid, modality, tuple(instances))


def _add_pixels(image: Dataset, number: int) -> None:
    """A ramp that is another one in each image; PS3.3 section C.7.6.3."""
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    row = b"".join(((column * number) % 4096).to_bytes(2, "little") for column in range(SIDE))
    image.PixelData = row * SIDE
