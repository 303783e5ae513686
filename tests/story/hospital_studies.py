"""The studies of the simulated hospital: synthetic, small, the same for the same seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom.dsutils import encode

ROOT = "1.2.826.0.1.3680043.10.511.7"
SIZES = (96, 128, 192, 256)


@dataclass(frozen=True, slots=True)
class MadeStudy:
    """A study as the modality sends it."""

    uid: str
    modality: str
    instances: tuple[Dataset, ...]

    @property
    def digests(self) -> dict[str, str]:
        """SOP Instance UID -> SHA-256 of the dataset as it goes over the wire."""
        return {str(each.SOPInstanceUID): digest(wire(each)) for each in self.instances}


def wire(dataset: Dataset) -> bytes:
    """The dataset in Explicit VR Little Endian."""
    encoded = encode(dataset, False, True)
    assert encoded is not None
    return encoded


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_study(seed: int, number: int, instances_max: int) -> MadeStudy:
    """Study ``number`` of the hospital of ``seed``; every third is an MR."""
    rng = random.Random(f"{seed} study {number}")
    modality = "MR" if number % 3 == 0 else "CT"
    uid = f"{ROOT}.{seed}.{number + 1}"
    side = rng.choice(SIZES)
    images = tuple(
        _image(rng, uid, modality, number, each, side) for each in range(1, rng.randint(1, instances_max) + 1)
    )
    return MadeStudy(uid, modality, images)


def _image(rng: random.Random, study: str, modality: str, patient: int, number: int, side: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
    image.SOPInstanceUID = f"{study}.1.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.1"
    image.StudyDate, image.StudyTime = "20270226", "101500"
    image.StudyID, image.AccessionNumber = "1", f"A{patient:05d}"
    image.PatientName, image.PatientID = f"DAY^PATIENT{patient:05d}", f"DAY{patient:05d}"
    image.PatientBirthDate, image.PatientSex = "19600101", "O"
    image.Modality, image.SeriesNumber, image.InstanceNumber = modality, 1, number
    image.Rows = image.Columns = side
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelData = rng.randbytes(side * side * 2)
    return image
