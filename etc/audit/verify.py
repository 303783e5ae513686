"""Checks a proof that `hsm audit prove` wrote: python3 verify.py [FOLDER [PACKAGE.tar ...]]

Needs Python 3.9 and nothing else. It shows that the chain from the study's first record to the anchor is
whole, that the study's records are in it, and that packages, where given, are the bytes that were archived.
That the anchor is the archive's own must be seen elsewhere: on a volume, in a file or a log that was kept.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
anchor = json.loads((folder / "anchor.json").read_text(encoding="utf-8"))
study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
with (folder / "journal.jsonl").open(encoding="utf-8", newline="\n") as file:
    own = {entry["seq"]: list(entry.values()) for entry in map(json.loads, file)}
digest, seq, wrong = bytes.fromhex(anchor["from_digest"]), anchor["from_seq"], []
with gzip.open(folder / "chain.jsonl.gz", "rt", encoding="utf-8", newline="\n") as chain:
    for text in chain:
        line = text.rstrip("\n")
        record = json.loads(line)
        seq += 1
        if record[0] != seq:
            wrong.append(f"record {seq} is missing: {record[0]} follows")
            seq = record[0]
        digest = hashlib.sha256(digest + line.encode()).digest()
        if own.pop(seq, record) != record:
            wrong.append(f"record {seq} in journal.jsonl is not the one in the chain")
if (seq, digest.hex()) != (anchor["seq"], anchor["digest"]):
    wrong.append(f"the chain ends at record {seq} with {digest.hex()}, not at the anchor")
wrong += [f"record {number} of journal.jsonl is not in the chain" for number in own]
known = {each["package"]: each["sha256"] for each in study["packages"]}
for path in map(Path, sys.argv[2:]):
    found = hashlib.sha256()
    with path.open("rb") as package:
        while block := package.read(1 << 20):
            found.update(block)
    if known.get(path.name) != found.hexdigest():
        wrong.append(f"{path}: not the bytes that were archived as {path.name}")
print("\n".join(wrong) or f"good: study {study['study']}, records {anchor['from_seq'] + 1} to {seq}")
sys.exit(1 if wrong else 0)
