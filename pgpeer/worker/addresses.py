"""The addresses of peers: which of them are dialled, and how that went."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from pgpeer.store.reachability import KnownAddress
from pgpeer.transport.ways import Outcome

OWN_WORD: Final = frozenset({"static", "record", "seen"})
"""Sources that count for any address: people here, the peer's signature, this worker's own eyes."""

MISLED_SECONDS: Final = 600.0
"""So long an address is left out after somebody else than the peer answered there."""

Address = tuple[str, int]


def read_address(text: str) -> Address | None:
    """Read `tls://host:port`, with IPv6 in brackets; None when it is no such address."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "tls" or not host or not port or parts.path or parts.query or parts.username:
        return None
    return host, port


def read_endpoint(text: str) -> Address:
    """Read `host:port` as peer.config takes it, with IPv6 in brackets."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def write_address(host: str, port: int) -> str:
    """Write an address as peer records and `peer.address` name it."""
    return f"tls://[{host}]:{port}" if ":" in host else f"tls://{host}:{port}"


def may_dial(known: KnownAddress) -> bool:
    """Whether a worker may connect to an address of a peer.

    What a third party tells of a peer counts only for addresses of the public internet: otherwise it could
    send this worker to services inside its own network, or on its own host. A name could mean any address.
    Nobody's word, except that of people here, leads to link-local addresses, where clouds keep secrets.
    """
    read = read_address(known.address)
    if read is None or read[1] == 0:
        return False
    if known.source == "static":
        return True
    try:
        address = ipaddress.ip_address(read[0].partition("%")[0])
    except ValueError:
        return known.source in OWN_WORD
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return known.source in OWN_WORD or address.is_global


class AddressBook:
    """How the addresses of peers have done since the worker began.

    Args:
        store: is told when an address begins to work (True) or stops working: peer id, address, which.
    """

    def __init__(self, store: Callable[[str, str, bool], None]) -> None:
        self._store = store
        self._works: dict[tuple[str, str], bool] = {}
        self._misled: dict[tuple[str, str], float] = {}
        self._clock = asyncio.get_running_loop().time

    def to_dial(self, peer_id: str, known: Iterable[KnownAddress]) -> list[Address]:
        """Give the addresses of a peer that are to be dialled now."""
        found = []
        for one in known:
            read = read_address(one.address)
            until = self._misled.get((peer_id, one.address), 0.0)
            if read is not None and may_dial(one) and self._clock() >= until:
                found.append(read)
        return found

    def note(self, peer_id: str, address: Address, outcome: Outcome) -> None:
        """An address was dialled."""
        key = (peer_id, write_address(*address))
        if outcome == "misled":
            self._misled[key] = self._clock() + MISLED_SECONDS
        if self._works.get(key) != (outcome == "led"):
            self._works[key] = outcome == "led"
            self._store(*key, outcome == "led")

    def keep(self, peer_ids: Iterable[str]) -> None:
        """Forget what concerns other peers."""
        kept = set(peer_ids)
        self._works = {key: works for key, works in self._works.items() if key[0] in kept}
        self._misled = {key: until for key, until in self._misled.items() if key[0] in kept}
