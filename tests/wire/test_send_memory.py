"""A large instance is sent without being in memory; measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20

SCRIPT = """
import hashlib, os, socket, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_send import BadPeer, Line
from wire_fakes import CT, EXPLICIT, element, small_dataset
from hsm.clock import SystemClock
from hsm.config import AeConfig, DicomConfig
from hsm.dicom.subops import Destination
from hsm.model import InstanceRef
from hsm.part10 import file_head
from hsm.ranges import checked, open_range
from hsm.retrieval import Readable

def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) >> 10

path, pixels = Path(sys.argv[2]), int(sys.argv[3])
head = file_head(CT, "1.2.9", EXPLICIT) + small_dataset("1.2.9", pixels=0)[:-12]
head += b"\\xe0\\x7f\\x10\\x00OW\\0\\0" + pixels.to_bytes(4, "little")
path.write_bytes(head)
os.truncate(path, len(head) + pixels)
with open(path, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").digest()
size = len(head) + pixels
instance = InstanceRef(1, "1.2.9", CT, EXPLICIT, 0, size, digest, "1.2.3", "1.2.4", None, None)
taken = []

def drain(line):
    _, body = line.pdu()
    total, buffer = 0, bytearray(1 << 20)
    while True:
        head = line.exactly(12)
        left = int.from_bytes(head[2:6], "big") - 6
        total += left
        while left:
            left -= line.sock.recv_into(buffer, min(left, len(buffer)))
        if head[11] & 2:
            break
    taken.append(total)
    line.answer(body[4], 1, "1.2.9")
    line.message()

peer = BadPeer(drain)
ae = AeConfig(ae_title="DEST", host="127.0.0.1", port=peer.port)
destination = Destination(ae, "HSM", DicomConfig(), SystemClock(), [instance], None)
before = peak_mib()
content = checked(open_range(path, 0, size), digest, lambda: None)
outcome = destination.send(Readable(instance, content))
content.close()
grown = peak_mib() - before
destination.close()
peer.stop()
print(outcome.verdict.value, taken[0] - pixels < 1000, grown)
"""


@pytest.mark.campaign
def test_five_hundred_megabytes_are_sent_in_a_few(tmp_path: Path) -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here), str(tmp_path / "large.dcm"), str(500 * MIB)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdict, whole, grown = done.stdout.split()
    assert (verdict, whole) == ("completed", "True")
    assert int(grown) < 40, f"{grown} MiB"
