"""pydicom's test files as encoded datasets."""

from __future__ import annotations

from pathlib import Path

from pydicom.filereader import _read_file_meta_info


def dataset_of(path: Path) -> tuple[bytes, str]:
    """A Part 10 file's dataset as it is encoded, and its transfer syntax."""
    data = path.read_bytes()
    assert data[128:132] == b"DICM", path
    with path.open("rb") as file:
        file.seek(132)
        meta = _read_file_meta_info(file)  # type: ignore[arg-type]
        return data[file.tell() :], str(meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
