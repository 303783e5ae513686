"""Blocks of any partition, through the SCSI generic device: the st driver knows one partition only, unless it
was told otherwise for good. Pure: the command lines.

LOCATE(16) and READ(6) (SSC-4).
"""

from __future__ import annotations

_CHANGE_PARTITION, _SUPPRESS_INCORRECT_LENGTH = 0x02, 0x02


def locate_command(generic: str, partition: int, block: int, seconds: float) -> list[str]:
    """Takes the head to a logical object of a partition."""
    where = block.to_bytes(8, "big").hex(" ")
    cdb = f"92 {_CHANGE_PARTITION:02x} 00 {partition:02x} {where} 00 00 00 00"
    return ["sg_raw", f"--timeout={seconds:.0f}", generic, *cdb.split()]


def read_command(generic: str, size: int, seconds: float) -> list[str]:
    """Reads the next record, of ``size`` bytes at most."""
    cdb = f"08 {_SUPPRESS_INCORRECT_LENGTH:02x} {size.to_bytes(3, 'big').hex(' ')} 00"
    return ["sg_raw", "--binary", f"--request={size}", f"--timeout={seconds:.0f}", generic, *cdb.split()]
