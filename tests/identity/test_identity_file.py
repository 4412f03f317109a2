import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from uuid import UUID

import pytest

from pgpeer.errors import IdentityError
from pgpeer.identity import ledger as ledger_room
from pgpeer.identity.key import PrivateKey, verify
from pgpeer.identity.keyfile import IdentityFile
from pgpeer.identity.ledger import LedgerEntry, SignatureLedger

BUNDLE = UUID(int=1)
OTHER_BUNDLE = UUID(int=2)
ZEROS = "00" * 32


@pytest.fixture
def identity(tmp_path: Path) -> IdentityFile:
    file = IdentityFile(tmp_path / "state" / "identity")
    file.create()
    return file


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_created_key_is_loaded_again(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path / "deep" / "er" / "identity")
    assert not file.exists()
    key = file.create()
    assert file.exists()
    assert file.load().peer_id == key.peer_id


def test_only_the_owner_can_read_the_file(identity: IdentityFile) -> None:
    assert identity.path.stat().st_mode & 0o777 == 0o600
    assert identity.path.parent.stat().st_mode & 0o777 == 0o700


def test_an_existing_identity_is_never_overwritten(identity: IdentityFile) -> None:
    before = identity.path.read_bytes()
    with pytest.raises(IdentityError) as caught:
        identity.create()
    assert caught.value.code == "identity_exists"
    assert identity.path.read_bytes() == before
    assert [entry.name for entry in identity.path.parent.iterdir()] == ["identity"]


def test_a_file_open_to_others_is_refused(identity: IdentityFile) -> None:
    identity.path.chmod(0o640)
    with pytest.raises(IdentityError, match="640") as caught:
        identity.load()
    assert "chmod 600" in caught.value.remedy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"kind": "pgpeer identity", "version": 1, "peer_id": "pg1", "seed": "00"}',
        b'{"kind": "pgpeer identity", "version": 1, "peer_id": "pg1", "seed": "' + b"00" * 32 + b'"}',
        b'{"kind": "pgpeer identity", "version": 2}',
        b"[" * 4000,
    ],
)
def test_a_damaged_file_is_refused(identity: IdentityFile, content: bytes) -> None:
    identity.path.write_bytes(content)
    with pytest.raises(IdentityError) as caught:
        identity.load()
    assert caught.value.remedy


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    for attempt in (IdentityFile(tmp_path / "none").load, IdentityFile(tmp_path / "none").hold):
        with pytest.raises(IdentityError) as caught:
            attempt()
        assert "pgpeer init" in caught.value.remedy


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError):
        IdentityFile(tmp_path).load()
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError):
        IdentityFile(tmp_path / "file" / "identity").create()


def test_a_held_identity_is_refused_to_another_worker_until_closed(identity: IdentityFile) -> None:
    with identity.hold() as held:
        with pytest.raises(IdentityError, match="in use by another worker") as caught:
            identity.hold()
        assert caught.value.code == "identity_in_use"
        assert identity.load().peer_id == held.key.peer_id
    identity.hold().close()


def test_a_killed_worker_gives_its_identity_back(identity: IdentityFile) -> None:
    script = (
        "import sys, time; from pathlib import Path; from pgpeer.identity.keyfile import IdentityFile\n"
        "held = IdentityFile(Path(sys.argv[1])).hold(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(identity.path)], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        with pytest.raises(IdentityError, match="in use"):
            identity.hold()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    identity.hold().close()


def test_commits_are_recorded_before_they_are_signed(identity: IdentityFile) -> None:
    entries = [LedgerEntry(BUNDLE, 7, seq, digest(seq)) for seq in (1, 2, 3)]
    with identity.hold() as held:
        signatures = held.sign_once("commit", entries)
        for entry, signature in zip(entries, signatures, strict=True):
            verify(held.key.public_key, "commit", entry.digest, signature)
        assert all(digest(seq).hex().encode() in identity.ledger_path.read_bytes() for seq in (1, 2, 3))


def test_another_digest_at_or_below_a_recorded_number_is_never_signed(identity: IdentityFile) -> None:
    with identity.hold() as held:
        held.ledger.record(BUNDLE, 7, 5, digest(5))
        for seq in (5, 4, 1):
            with pytest.raises(IdentityError) as caught:
                held.sign_once("commit", [LedgerEntry(BUNDLE, 7, seq, digest(99))])
            assert caught.value.code == "ledger_fork"
            assert "new epoch" in caught.value.remedy
    with identity.hold() as held, pytest.raises(IdentityError):
        held.sign_once("commit", [LedgerEntry(BUNDLE, 7, 5, digest(99))])


def test_other_epochs_and_bundles_count_for_themselves(identity: IdentityFile) -> None:
    with identity.hold() as held:
        held.ledger.record(BUNDLE, 7, 5, digest(5))
        held.ledger.record(BUNDLE, 8, 1, digest(6))
        held.ledger.record(OTHER_BUNDLE, 7, 1, digest(7))
    with identity.hold() as held:
        assert held.ledger.last(BUNDLE, 7) == (5, digest(5))
        assert held.ledger.last(BUNDLE, 8) == (1, digest(6))
        assert held.ledger.last(OTHER_BUNDLE, 7) == (1, digest(7))
        assert held.ledger.last(OTHER_BUNDLE, 8) is None


def test_the_same_commits_are_signed_again_after_a_crash(identity: IdentityFile) -> None:
    entries = [LedgerEntry(BUNDLE, 7, seq, digest(seq)) for seq in range(1, 101)]
    with identity.hold() as held:
        before = held.sign_once("commit", entries)
    with identity.hold() as held:
        assert held.sign_once("commit", entries) == before
        assert held.sign_once("commit", [*entries[50:], LedgerEntry(BUNDLE, 7, 101, digest(101))])


def test_a_batch_that_contradicts_itself_records_nothing(identity: IdentityFile) -> None:
    with identity.hold() as held:
        with pytest.raises(IdentityError):
            held.sign_once(
                "commit", [LedgerEntry(BUNDLE, 7, 1, digest(1)), LedgerEntry(BUNDLE, 7, 1, digest(2))]
            )
        assert held.ledger.last(BUNDLE, 7) is None
        held.ledger.record(BUNDLE, 7, 1, digest(2))


def test_a_torn_last_line_is_dropped(identity: IdentityFile) -> None:
    with identity.hold() as held:
        held.ledger.record(BUNDLE, 7, 1, digest(1))
        held.ledger.record(BUNDLE, 7, 2, digest(2))
    whole = identity.ledger_path.read_bytes()
    identity.ledger_path.write_bytes(whole + b"0000dead [[" + bytes(40))
    with identity.hold() as held:
        assert held.ledger.last(BUNDLE, 7) == (2, digest(2))
        held.ledger.record(BUNDLE, 7, 3, digest(3))
    with identity.hold() as held:
        assert held.ledger.last(BUNDLE, 7) == (3, digest(3))


def test_damage_before_the_last_line_is_refused_and_gives_the_lock_back(identity: IdentityFile) -> None:
    with identity.hold() as held:
        held.ledger.record(BUNDLE, 7, 1, digest(1))
        held.ledger.record(OTHER_BUNDLE, 7, 2, digest(2))
    content = bytearray(identity.ledger_path.read_bytes())
    content[30] ^= 1
    identity.ledger_path.write_bytes(bytes(content))
    for _ in range(2):
        with pytest.raises(IdentityError, match="damaged in line 1"):
            identity.hold()


@pytest.mark.parametrize(
    "words",
    [
        *("", "{}", "[1]", '[["x",7,1,"00"]]', f'[[5,7,1,"{ZEROS}"]]', "[" * 5000),
        f'[["{BUNDLE}",true,1,"{ZEROS}"]]',
        f'[["{BUNDLE}",7,1,"00"]]',
    ],
)
def test_wrong_words_behind_a_right_check_sum_are_refused_even_in_the_last_line(
    identity: IdentityFile, words: str
) -> None:
    """No crash leaves such a line, so it is not dropped like a torn one."""
    line = f"{zlib.crc32(words.encode()):08x} {words}\n"
    identity.ledger_path.write_text(line)
    with pytest.raises(IdentityError, match="damaged in line 1"):
        identity.hold()


def test_opening_compacts_the_ledger(identity: IdentityFile) -> None:
    with identity.hold() as held:
        for first in range(1, 5_001, 1_000):
            held.ledger.record_all(
                [LedgerEntry(BUNDLE, 7, seq, digest(seq)) for seq in range(first, first + 1_000)]
            )
    grown = identity.ledger_path.stat().st_size
    with identity.hold() as held:
        assert identity.ledger_path.stat().st_size < grown / 4
        assert held.ledger.last(BUNDLE, 7) == (5_000, digest(5_000))
        with pytest.raises(IdentityError):
            held.ledger.record(BUNDLE, 7, 1, digest(1))


def test_a_batch_larger_than_what_is_retained_is_refused(identity: IdentityFile) -> None:
    too_many = [
        LedgerEntry(BUNDLE, 7, seq, digest(seq)) for seq in range(1, ledger_room.RETAINED_DIGESTS + 2)
    ]
    with identity.hold() as held, pytest.raises(IdentityError):
        held.ledger.record_all(too_many)


def test_a_full_disk_releases_no_signature() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    ledger = SignatureLedger.__new__(SignatureLedger)
    ledger._path, ledger._recorded, ledger._size, ledger._broken = full, {}, 0, False
    ledger._descriptor = os.open(full, os.O_WRONLY)
    for _ in range(2):
        with pytest.raises(IdentityError) as caught:
            ledger.record(BUNDLE, 7, 1, digest(1))
        assert caught.value.code == "ledger"
    assert ledger.last(BUNDLE, 7) is None
    ledger.close()


def test_a_closed_ledger_records_nothing(identity: IdentityFile) -> None:
    held = identity.hold()
    held.close()
    held.close()
    with pytest.raises(IdentityError):
        held.sign_once("commit", [LedgerEntry(BUNDLE, 7, 1, digest(1))])


def test_a_given_key_can_be_stored(tmp_path: Path) -> None:
    key = PrivateKey.from_seed(b"g" * 32)
    file = IdentityFile(tmp_path / "identity")
    assert file.create(key).peer_id == key.peer_id
    assert file.load().peer_id == key.peer_id
