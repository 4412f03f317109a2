"""The namespace of a bundle at a hub, and what a member says there of itself: sealed, for members only.

Name and key come from the bundle's id, a random UUID that only members know, and who holds an invite: the hub
can neither tell which bundle a namespace is of, nor read what stands in it. Who is no member any more still
knows the id and can read on, so all that is said is where a member is; being listed makes nobody a member.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

from pgpeer.commit import dag_cbor
from pgpeer.errors import CommitError, ConfigError, IdentityError, LocalProtocolError, RemoteProtocolError
from pgpeer.identity.key import SEAL_OVERHEAD_BYTES, PrivateKey, seal_to
from pgpeer.signaling.authentication import require_hub_url
from pgpeer.signaling.messages import URL_CHARACTERS_LIMIT
from pgpeer.signaling.record import BODY_CHARACTERS_LIMIT, Registration, rendezvous_name

KIND: Final = "bundle"
SEALED_BYTES_LIMIT: Final = BODY_CHARACTERS_LIMIT // 4 * 3 - SEAL_OVERHEAD_BYTES
"""So much fits into the body of a registration, packed."""

UNPACKED_BYTES_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Membership:
    """What a member says of itself.

    Attributes:
        relay: URL of the hub whose circuits lead to it; empty when it takes none there.
        record: its signed peer record (`pgpeer.identity.notice`), not checked here; empty when it has none.
    """

    relay: str = ""
    record: bytes = b""


class Space:
    """The namespace of one bundle.

    Args:
        secret: the 16 bytes of the bundle's id.
    """

    __slots__ = ("_key", "name")

    def __init__(self, secret: bytes) -> None:
        self.name: str = rendezvous_name(KIND, secret)
        """What the hub knows it by."""
        # everybody who knows the secret has this key, so what is sealed to it is for them all
        seed = hashlib.blake2b(b"", digest_size=32, key=secret, person=b"pgpeer-members-1").digest()
        self._key = PrivateKey.from_seed(seed)

    def seal(self, peer_id: str, membership: Membership) -> str:
        """Give the body of a registration of this peer.

        Raises:
            LocalProtocolError: it says more than a registration holds (`too_large`).
        """
        relay, record = dag_cbor.text(membership.relay), dag_cbor.byte_string(membership.record)
        packing = zlib.compressobj(level=9, wbits=-15, zdict=_expected(peer_id))
        packed = packing.compress(dag_cbor.array([relay, record])) + packing.flush()
        if len(packed) > SEALED_BYTES_LIMIT:
            raise LocalProtocolError(
                f"What a member says takes {len(packed)} bytes; a registration holds {SEALED_BYTES_LIMIT}.",
                code="too_large",
                phase="signalling",
            )
        return b64encode(seal_to(self._key.public_key, packed)).decode("ascii")

    def read(self, registration: Registration) -> Membership:
        """Give what a peer says in its registration, whose signature was checked.

        Raises:
            RemoteProtocolError: it was not sealed for this namespace, or is malformed (`bad_message`).
        """
        try:
            packed = self._key.open(b64decode(registration.body, validate=True))
            unpacking = zlib.decompressobj(wbits=-15, zdict=_expected(registration.peer_id))
            reader = _Reader(unpacking.decompress(packed, UNPACKED_BYTES_LIMIT))
            reader.length(dag_cbor.ARRAY, 2)
            relay, record = reader.text(URL_CHARACTERS_LIMIT), reader.bytes_up_to(UNPACKED_BYTES_LIMIT)
            reader.end()
            if relay:
                require_hub_url(relay)
        except (ValueError, zlib.error, IdentityError, CommitError, ConfigError) as error:
            raise RemoteProtocolError(
                f"The registration of {registration.peer_id} cannot be read.",
                code="bad_message",
                phase="signalling",
            ) from error
        return Membership(relay, record)


class _Reader(dag_cbor.Reader):
    def bytes_up_to(self, limit: int) -> bytes:
        return self._take(self.length(dag_cbor.BYTES, limit))


def _expected(peer_id: str) -> bytes:
    """What every peer record holds: it takes no room, so that more addresses find some."""
    return f'ws://wss://:5432tls://[","tls://192.168.10.],"from":"{peer_id}","label":"","seq":17'.encode()
