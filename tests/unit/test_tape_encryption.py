"""Volumes that the drive encrypts: one key for a volume's life, and no key where it can be seen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from drivers.base import Store, VolumeLabel
from drivers.errors import OperatorNeeded, Permanent
from drivers.tape.configure import open_mtx
from drivers.tape.encryption import read_key
from drivers.tape.fake import Sealed
from drivers.tape.fakelibrary import CHANGER, FakeIo, fake_library
from drivers.tape.library import DRIVE_ADDRESS as DRIVE
from drivers.tape.library import TapeLibrary

ONE, PLAIN = VolumeLabel("HSM001L8", "uuid-1", "vault"), VolumeLabel("HSM002L8", "uuid-2", "tape-a")
DATA = b"package" * 100_000
KEYS = ("0011223344556677" * 4, "ffeeddccbbaa9988" * 4)


def key_file(folder: Path, number: int) -> str:
    path = folder / f"key{number}"
    path.touch(mode=0o600)
    path.write_text(f"{KEYS[number]}\nvault {number}\n")
    return str(path)


def opened(machine: FakeIo, **keys: str) -> TapeLibrary:
    return open_mtx({"changer": CHANGER, "pool_keys": keys}, machine)


def put(store: Store, key: str) -> None:
    store.put(key, io.BytesIO(DATA), len(DATA), None)
    store.flush()


@pytest.fixture
def machine() -> FakeIo:
    return fake_library((ONE.barcode, PLAIN.barcode))


def test_a_pools_volumes_are_encrypted_behind_their_labels_and_others_are_not(
    machine: FakeIo, tmp_path: Path
) -> None:
    library = opened(machine, vault=key_file(tmp_path, 0))
    for volume in (ONE, PLAIN):
        library.label(volume, DRIVE)
        put(library.mount(volume, DRIVE), "a")
    sealed, clear = (
        [isinstance(r, Sealed) for r in machine.tapes[each.barcode].records if r] for each in (ONE, PLAIN)
    )
    assert not any(clear)
    assert sealed[:2] == [False, False]
    assert all(sealed[2:])
    assert len(sealed) > 3
    library.unmount(DRIVE)
    again = opened(machine, vault=key_file(tmp_path, 0))
    assert b"".join(again.mount(ONE, DRIVE).get("a")) == DATA
    assert again.report(DRIVE).encryption == "encrypts, reads both kinds"


@pytest.mark.parametrize("keys", [{}, {"tape-a": 0}, {"vault": 1}])
def test_a_volume_of_another_key_is_neither_read_nor_written(
    machine: FakeIo, tmp_path: Path, keys: dict[str, int]
) -> None:
    library = opened(machine, vault=key_file(tmp_path, 0))
    library.label(ONE, DRIVE)
    put(library.mount(ONE, DRIVE), "a")
    library.unmount(DRIVE)
    before = list(machine.tapes[ONE.barcode].records)
    other = opened(machine, **{pool: key_file(tmp_path, number) for pool, number in keys.items()})
    fingerprint = read_key(key_file(tmp_path, 0)).fingerprint
    assert other.read_label(ONE.barcode, DRIVE) == ONE
    machine.drives[0].log.clear()
    with pytest.raises(OperatorNeeded, match=fingerprint) as caught:
        other.mount(ONE, DRIVE)
    assert "pool 'vault' has" in str(caught.value)
    assert machine.tapes[ONE.barcode].records == before
    assert not [motion for motion in machine.drives[0].log if motion.split()[0] in ("EOM", "SEEK", "WEOF")]


def test_a_volume_labelled_without_a_key_is_only_read_when_its_pool_has_one(
    machine: FakeIo, tmp_path: Path
) -> None:
    library = opened(machine)
    library.label(ONE, DRIVE)
    put(library.mount(ONE, DRIVE), "a")
    library.unmount(DRIVE)
    store = opened(machine, vault=key_file(tmp_path, 0)).mount(ONE, DRIVE)
    assert b"".join(store.get("a")) == DATA
    with pytest.raises(Permanent, match="labelled without a key"):
        put(store, "b")


def test_a_key_that_was_left_in_the_drive_does_not_get_onto_other_volumes(
    machine: FakeIo, tmp_path: Path
) -> None:
    library = opened(machine, vault=key_file(tmp_path, 0))
    library.read_label(PLAIN.barcode, DRIVE)
    machine.drives[0].key = b"left"
    library.label(PLAIN, DRIVE)
    machine.drives[0].key = b"left"
    put(library.mount(PLAIN, DRIVE), "a")
    assert not [r for r in machine.tapes[PLAIN.barcode].records if isinstance(r, Sealed)]


def test_the_key_is_in_no_command_label_or_message(machine: FakeIo, tmp_path: Path) -> None:
    library = opened(machine, vault=key_file(tmp_path, 0))
    library.label(ONE, DRIVE)
    library.mount(ONE, DRIVE)
    seen = "\n".join(machine.ran) + repr(machine.tapes[ONE.barcode].records) + repr(library.report(DRIVE))
    assert "stenc -f /dev/sg0 -e mixed -k" in seen
    assert KEYS[0][:16] not in seen
    machine.encrypts = False
    library.unmount(DRIVE)  # comes out although the key cannot be taken back
    with pytest.raises(OperatorNeeded, match="install") as caught:
        library.mount(ONE, DRIVE)
    assert KEYS[0][:16] not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (KEYS[0], 0o640, "others than its owner"),
        (KEYS[0][:30], 0o600, "no key of 128"),
        ("not hexadecimal", 0o600, "no key of 128"),
        ("", 0o600, "no key of 128"),
        (None, 0o600, "No such file"),
    ],
)
def test_a_key_file_that_is_none_is_refused_before_anything_is_written(
    machine: FakeIo, tmp_path: Path, content: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(OperatorNeeded, match=words) as caught:
        opened(machine, vault=str(path)).label(ONE, DRIVE)
    assert not content or content not in str(caught.value)
    assert machine.tapes[ONE.barcode].records == []


@pytest.mark.parametrize("keys", [["/a"], {"vault": "relative"}, {"vault": 3}])
def test_keys_that_are_no_paths_are_refused_without_being_told(machine: FakeIo, keys: object) -> None:
    with pytest.raises(Permanent, match="pool_keys: expected absolute paths"):
        open_mtx({"changer": CHANGER, "pool_keys": keys}, machine)
