"""What this side has told about its vectors: large ones go by their digest, and whole only when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from pgpeer.commit.vector import VectorEntry, vector_digest
from pgpeer.errors import RemoteProtocolError
from pgpeer.protocol import limits
from pgpeer.protocol.messages import Vector, VectorDigest


class Announcements:
    """The last vector told of each bundle, and how often it may still be asked for."""

    __slots__ = ("_askable", "_told")

    def __init__(self) -> None:
        self._told: dict[UUID, tuple[Vector, bytes]] = {}
        self._askable: dict[UUID, int] = {}

    def announce(
        self, bundle_id: UUID, entries: Sequence[VectorEntry], partial: Mapping[bytes, Sequence[int]]
    ) -> Vector | VectorDigest:
        """Remember a vector and give the message that tells of it."""
        held = {digest: tuple(numbers) for digest, numbers in partial.items()}
        vector, digest = Vector(bundle_id, tuple(entries), held), vector_digest(entries)
        self._told[bundle_id] = vector, digest
        if len(vector.entries) <= limits.WHOLE_VECTOR_ENTRIES or held:
            return vector
        self._askable[bundle_id] = self._askable.get(bundle_id, 0) + 1
        return VectorDigest(bundle_id, digest)

    def equal(self, bundle_id: UUID, digest: bytes) -> Vector | None:
        """Give this side's vector if the other side's digest is the same."""
        own, own_digest = self._told.get(bundle_id, (None, b""))
        return own if own_digest == digest else None

    def answer(self, bundle_id: UUID) -> Vector:
        """Give the whole vector, once for each digest told: a few bytes must not ask for megabytes for ever.

        Raises:
            RemoteProtocolError: it was not told, or asked for already.
        """
        left = self._askable.get(bundle_id, 0)
        if left == 0:
            raise RemoteProtocolError("The other side asks for a vector that was never announced.")
        self._askable[bundle_id] = left - 1
        return self._told[bundle_id][0]
