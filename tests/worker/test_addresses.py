"""Which addresses of peers are dialled, and what is remembered of trying them."""

from __future__ import annotations

import pytest

from pgpeer.store.reachability import KnownAddress
from pgpeer.worker.addresses import (
    MISLED_SECONDS,
    AddressBook,
    may_dial,
    read_address,
    read_endpoint,
    write_address,
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("tls://db.example.org:7432", ("db.example.org", 7432)),
        ("tls://192.0.2.7:1", ("192.0.2.7", 1)),
        ("tls://[2001:db8::7]:7432", ("2001:db8::7", 7432)),
        ("ws://hub.example:8443", None),
        ("tls://db.example.org", None),
        ("tls://:7432", None),
        ("tls://db.example.org:70000", None),
        ("tls://user@db.example.org:7432", None),
        ("tls://db.example.org:7432/path", None),
        ("tls://[::1:7432", None),
    ],
)
def test_addresses_are_read_strictly(text: str, read: tuple[str, int] | None) -> None:
    assert read_address(text) == read
    if read is not None:
        assert write_address(*read) == text


def test_endpoints_of_the_configuration_are_read() -> None:
    assert read_endpoint("0.0.0.0:7432") == ("0.0.0.0", 7432)
    assert read_endpoint("[::]:0") == ("::", 0)


PRIVATE = [
    "10.0.0.1",
    "192.168.1.5",
    "172.16.3.3",
    "127.0.0.1",
    "[::1]",
    "[fd00::2]",
    "[::ffff:10.0.0.1]",
    "100.64.0.1",
]
LOCAL = ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1", "0.0.0.0", "[::]"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_third_party_cannot_send_this_worker_into_its_own_network(host: str) -> None:
    address = f"tls://{host}:7432"
    assert not may_dial(KnownAddress(address, "hub"))
    assert not may_dial(KnownAddress(address, "invite"))
    for own in ("static", "record", "seen"):
        assert may_dial(KnownAddress(address, own))


@pytest.mark.parametrize("host", LOCAL)
def test_nobody_but_people_here_can_send_it_to_special_addresses(host: str) -> None:
    address = f"tls://{host}:80"
    for source in ("record", "seen", "hub", "invite"):
        assert not may_dial(KnownAddress(address, source))
    assert may_dial(KnownAddress(address, "static"))


def test_public_addresses_count_from_anybody_and_names_only_from_the_peer_itself() -> None:
    assert may_dial(KnownAddress("tls://8.8.8.8:7432", "hub"))
    assert may_dial(KnownAddress("tls://[2606:4700::1]:7432", "invite"))
    assert not may_dial(KnownAddress("tls://inside.example:7432", "hub"))
    assert may_dial(KnownAddress("tls://db.example.org:7432", "record"))
    assert not may_dial(KnownAddress("wss://hub.example", "static"))


async def test_only_changes_are_stored_and_a_stranger_s_address_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored: list[tuple[str, str, bool]] = []
    book = AddressBook(lambda *result: stored.append(result))
    now = 1000.0
    monkeypatch.setattr(book, "_clock", lambda: now)
    known = [KnownAddress("tls://192.0.2.1:1", "record"), KnownAddress("tls://192.0.2.2:2", "static")]
    assert book.to_dial("ann", known) == [("192.0.2.1", 1), ("192.0.2.2", 2)]
    for outcome in ("silent", "silent", "led", "led", "silent"):
        book.note("ann", ("192.0.2.1", 1), outcome)  # type: ignore[arg-type]
    assert stored == [("ann", "tls://192.0.2.1:1", works) for works in (False, True, False)]
    book.note("ann", ("192.0.2.2", 2), "misled")
    assert stored[-1] == ("ann", "tls://192.0.2.2:2", False)
    assert book.to_dial("ann", known) == [("192.0.2.1", 1)]
    assert book.to_dial("bob", known) == [("192.0.2.1", 1), ("192.0.2.2", 2)]
    now += MISLED_SECONDS
    assert len(book.to_dial("ann", known)) == 2
    book.note("ann", ("192.0.2.2", 2), "misled")
    book.keep(["bob"])
    assert len(book.to_dial("ann", known)) == 2
