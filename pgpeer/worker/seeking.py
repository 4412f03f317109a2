"""How a peer asks a friend for its other friends' records, without telling who they are.

It sends salted hashes of their peer ids. Who knows the same peer recognizes it, and nobody else learns more
than how many there are. The hash also names who asks whom, so a question that is passed on is worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol.messages import Payload

SALT_BYTES: Final = 16
HASH_BYTES: Final = 16

SOUGHT_LIMIT: Final = 256
"""So many friends are sought in one question."""


@dataclass(frozen=True, slots=True)
class Search:
    """One peer's question to another one.

    Attributes:
        seeker: peer id of who asks.
        asked: peer id of who is asked.
        salt: random, of one link.
        hashes: one for each peer that is sought.
    """

    seeker: str
    asked: str
    salt: bytes
    hashes: frozenset[bytes]

    @classmethod
    def of(cls, seeker: str, asked: str, salt: bytes, peer_ids: Iterable[str]) -> Self:
        """Make the question for peers, at most `SOUGHT_LIMIT`."""
        return cls(seeker, asked, salt, frozenset(_hash(seeker, asked, salt, one) for one in peer_ids))

    @classmethod
    def read(cls, seeker: str, asked: str, value: object) -> Self:
        """Read what `payload` gave.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        try:
            if not isinstance(value, dict) or value.keys() != {"salt", "hashes"}:
                raise ValueError("no question")
            salt, hashes = value["salt"], value["hashes"]
            if not isinstance(hashes, list) or len(hashes) > SOUGHT_LIMIT:
                raise ValueError("too many")
            read = [_bytes(one, HASH_BYTES) for one in hashes]
            return cls(seeker, asked, _bytes(salt, SALT_BYTES), frozenset(read))
        except ValueError as error:
            raise RemoteProtocolError(
                "The other side seeks friends in a malformed way.", phase="sync"
            ) from error

    def payload(self) -> Payload:
        """Give what is sent."""
        return {"salt": self.salt.hex(), "hashes": sorted(one.hex() for one in self.hashes)}

    def seeks(self, peer_id: str) -> bool:
        """Whether a peer is one of those sought."""
        return bool(self.hashes) and _hash(self.seeker, self.asked, self.salt, peer_id) in self.hashes


def _bytes(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size:
        raise ValueError("no bytes")
    read = bytes.fromhex(value)
    if len(read) != size:
        raise ValueError("blanks between")
    return read


def _hash(seeker: str, asked: str, salt: bytes, peer_id: str) -> bytes:
    words = "\n".join((seeker, asked, peer_id)).encode()
    return blake2b(words, digest_size=HASH_BYTES, salt=salt, person=b"pgpeer search").digest()
