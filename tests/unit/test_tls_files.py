"""Certificate files: what is wrong with one is told with its name, its line and what to do."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm.config import (
    DicomConfig,
    InvalidConfig,
    certificate_warnings,
    differences_needing_restart,
    kept_dicom,
    load,
)
from hsm.tls import BadTls, client_context, server_context, validity, warning

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "wire"))
from wire_tls import DAY, Authority

POOLS = "pools: [{name: online, tier: online, options: {path: data}}]\n"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def problems(folder: Path, dicom: str) -> list[str]:
    """What is said of a configuration with this section, without the file's name."""
    path = folder / "hsm.yaml"
    path.write_text(POOLS + "dicom:\n" + dicom, encoding="utf-8")
    try:
        load(path, {"HSM_HOME": str(folder / "home")})
    except InvalidConfig as error:
        return [str(problem).removeprefix(f"{path}:") for problem in error.problems]
    return []


def section(certificate: Path, key: Path, ca: Path) -> str:
    return f"  tls:\n    certificate: {certificate}\n    key: {key}\n    ca: {ca}\n"


def test_good_files_are_good_and_relative_to_the_configuration(tmp_path: Path) -> None:
    Authority(tmp_path / "tls")
    text = section(Path("tls/archive.pem"), Path("tls/archive.key"), Path("tls/ca.pem"))
    peer = "  aes: [{ae_title: A, host: a, port: 104, tls: {ca: tls/peer.pem}}]\n"
    assert problems(tmp_path, text + peer) == []


def test_each_file_that_is_no_use_is_named_with_its_line(tmp_path: Path, tls: Authority) -> None:
    good, key, ca = tls.certificate("archive"), tls.key("archive"), tls.ca
    missing = tmp_path / "none.pem"
    empty = tmp_path / "empty.pem"
    empty.write_text("hello")
    torn = tmp_path / "torn.pem"
    torn.write_text(good.read_text()[:200])
    _, locked = tls.issue("locked", passphrase=b"secret")
    for files, told in (
        ((missing, key, ca), f"4: dicom.tls.certificate: {missing}: No such file or directory"),
        ((good, missing, ca), f"5: dicom.tls.key: {missing}: No such file or directory"),
        ((good, key, missing), f"6: dicom.tls.ca: {missing}: No such file or directory"),
        ((empty, key, ca), f"4: dicom.tls.certificate: {empty}: holds no certificate in PEM"),
        ((torn, key, ca), f"4: dicom.tls.certificate: {torn}: holds a certificate that is damaged"),
        ((good, empty, ca), f"5: dicom.tls.key: {empty}: holds no usable private key in PEM"),
        ((good, key, empty), f"6: dicom.tls.ca: {empty}: holds no certificate in PEM"),
        ((good, tls.key("peer"), ca), f"5: dicom.tls.key: {tls.key('peer')}: is not the private key of"),
        ((tls.certificate("locked"), locked, ca), f"5: dicom.tls.key: {locked}: is encrypted"),
        ((tmp_path, key, ca), f"4: dicom.tls.certificate: {tmp_path}: Is a directory"),
    ):  # fmt: skip
        found = problems(tmp_path, section(*files))
        assert len(found) == 1 and found[0].startswith(told), found


def test_a_peers_files_are_looked_at_too(tmp_path: Path, tls: Authority) -> None:
    peer = (
        f"  aes:\n    - ae_title: A\n      host: a\n      port: 104\n      tls:\n        ca: {tmp_path}/no\n"
    )
    assert problems(tmp_path, peer) == [f"8: dicom.aes[0].tls.ca: {tmp_path}/no: No such file or directory"]


def test_who_may_not_read_the_key_can_still_find_the_control_socket(tmp_path: Path) -> None:
    path = tmp_path / "hsm.yaml"
    path.write_text(POOLS + "dicom:\n" + section(Path("a"), Path("b"), Path("c")))
    config = load(path, {"HSM_HOME": str(tmp_path)}, files=False)
    assert config.api.socket == tmp_path / "hsm.sock"
    assert config.dicom.tls is not None and config.dicom.tls.key == tmp_path / "b"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  tls: {certificate: a, key: b}\n", "dicom.tls: client_certificate: required needs ca"),
        ("  tls: {certificate: a, key: b, ca: c, port: 11112}\n", "dicom.tls.port: the same as dicom.port"),
        ("  tls: {certificate: a, ca: c}\n", "dicom.tls.key: is missing"),
        ("  tls: {certificate: a, key: b, ca: c, profile: SSL 3}\n", 'expected "BCP 195" or "TLS 1.3"'),
        ("  aes: [{ae_title: A, host: a, port: 1, tls: {key: k}}]\n", "expected certificate and key"),
        ("  aes: [{ae_title: A, host: a, port: 1, tls: maybe}]\n", "expected true, false, or a mapping"),
        ("  aes: [{ae_title: A, host: a, port: 1, tls: {cca: k}}]\n", "unknown key; did you mean ca?"),
        ("  aes: [{ae_title: A, host: a, port: 1, only_tls: true}]\n", "dicom.tls is not set"),
        ("  aes: [{ae_title: A, host: a, port: 1, certificate_names: [x]}]\n", "dicom.tls is not set"),
        ("  user_identity: required\n", "nobody could come: dicom.users is empty"),
        ("  aes: [{ae_title: A, host: a, port: 1, users: [bob]}]\n", "dicom.users has no 'bob'"),
        ("  users: [{name: bob, passcode: secret}]\n", "expected a passcode as `hsm config passcode` prints"),
        ("  users: [{name: bob}, {name: bob}]\n", "another user 'bob' comes before it"),
        ("  users: [{name: ' bob'}]\n", "expected a user's name"),
    ],
)
def test_contradictions_are_told_with_their_place(tmp_path: Path, text: str, told: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1 and told in found[0], found


def test_a_passcode_that_is_no_passcode_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    assert "hunter2" not in str(problems(tmp_path, "  users: [{name: bob, passcode: hunter2}]\n"))


def test_what_a_reload_cannot_change_is_named_and_kept(tmp_path: Path) -> None:
    def config(text: str) -> DicomConfig:
        path = tmp_path / "hsm.yaml"
        path.write_text(POOLS + "dicom:\n" + text)
        found = load(path, {"HSM_HOME": str(tmp_path)}, files=False)
        configs.append(found)
        return found.dicom

    configs: list[object] = []
    bare = config("  port: 104\n")
    old = config("  port: 104\n  tls: {certificate: a, key: b, ca: c}\n")
    new = config("  port: 104\n  tls: {certificate: x, key: y, ca: c, port: 2763, only: true}\n")
    first, second, third = configs
    assert differences_needing_restart(second, third) == [  # type: ignore[arg-type]
        "dicom.tls.port: 2762 -> 2763",
        "dicom.tls.only: False -> True",
    ]
    assert differences_needing_restart(first, second) == ["dicom.tls: added"]  # type: ignore[arg-type]
    assert differences_needing_restart(second, first) == ["dicom.tls: removed"]  # type: ignore[arg-type]
    kept = kept_dicom(old, new).tls
    assert kept is not None and (kept.port, kept.only, kept.certificate.name) == (2762, False, "x")
    assert kept_dicom(bare, new).tls is None
    assert kept_dicom(old, bare).tls == old.tls


# How long.


def test_the_time_of_a_chain_is_that_of_its_shortest_certificate(tls: Authority, tmp_path: Path) -> None:
    short, _ = tls.issue("short", days=10)
    chain = tmp_path / "chain.pem"
    chain.write_text("A comment.\n" + tls.ca.read_text() + short.read_text())
    now = datetime.now(UTC)
    assert validity(chain).days_left(now) == 9
    assert validity(tls.ca).days_left(now) in (3649, 3650)
    assert validity(chain).begins < now


def test_times_beyond_2049_and_of_old_certificates_are_read(tls: Authority) -> None:
    far, _ = tls.issue("far", days=365 * 40)
    assert validity(far).ends.year == (datetime.now(UTC) + timedelta(days=365 * 40)).year
    openssl = ssl._ssl._test_decode_cert(str(far))  # type: ignore[attr-defined]
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(openssl["notAfter"]), UTC)
    assert validity(far).ends == ends


def test_the_warnings_tell_days_and_what_to_do(tls: Authority) -> None:
    soon, _ = tls.issue("soon", days=40)
    now = datetime.now(UTC)
    assert warning(soon, now) is None
    ends = validity(soon).ends
    assert f"{soon} expires in 29 days" in str(warning(soon, ends - timedelta(days=29, hours=1)))
    assert "expires in 0 days" in str(warning(soon, ends - timedelta(hours=1)))
    assert f"expired on {ends:%Y-%m-%d}, 3 days ago: renew it" in str(
        warning(soon, ends + timedelta(days=2, hours=1))
    )
    assert "not valid before" in str(warning(soon, now - 10 * DAY))
    assert "No such file" in str(warning(Path("/nowhere"), now))


def test_any_damage_to_a_certificate_is_told_and_no_more(tls: Authority, tmp_path: Path) -> None:
    der = bytearray(ssl.PEM_cert_to_DER_cert(tls.certificate("archive").read_text()))
    path = tmp_path / "damaged.pem"
    for at in range(min(len(der), 250)):
        for value in (0x00, 0x80, 0xFF):
            changed = der.copy()
            changed[at] = value
            path.write_text(ssl.DER_cert_to_PEM_cert(bytes(changed)))
            try:
                validity(path)
            except BadTls:
                continue


def test_each_certificate_that_is_shown_is_watched(tls: Authority) -> None:
    late, key = tls.issue("late", days=5.5)
    peer = {"ae_title": "A", "host": "a", "port": 1}
    dicom = DicomConfig.model_validate(
        {
            "tls": tls.settings("late"),
            "aes": [peer | {"tls": {"certificate": str(late), "key": str(key)}}, peer | {"tls": True}],
        }
    )
    [told] = certificate_warnings(dicom, datetime.now(UTC))
    assert "expires in 5 days" in told


# Contexts.


def test_the_profile_is_bcp_195(tls: Authority) -> None:
    files = (tls.certificate("archive"), tls.key("archive"), tls.ca)
    for context in (server_context(*files), client_context(*files)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        names = [each["name"] for each in context.get_ciphers()]
        assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)
        assert not [name for name in names if "CBC" in name or name.endswith(("-SHA", "-SHA256-", "CCM8"))]
        # What every device of the profile has, RFC 9325 section 4.2.
        assert {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"} <= set(names)
        assert {"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"} <= set(names)
        assert context.options & ssl.OP_NO_COMPRESSION and context.options & ssl.OP_NO_RENEGOTIATION
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert client_context(*files).check_hostname
    assert server_context(*files, profile="TLS 1.3").minimum_version == ssl.TLSVersion.TLSv1_3
