"""What two linked workers tell each other apart from bundles: time, whom they seek, and where peers are."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.protocol.messages import Payload
from pgpeer.signaling.signal import CLOCK_LEEWAY_SECONDS
from pgpeer.worker.clock import unix_time
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.office import Office
from pgpeer.worker.records import LEFT_OUT_LIMIT, RECORDS_ID
from pgpeer.worker.registry import batches, readable
from pgpeer.worker.seeking import SALT_BYTES, Search

TIME_SECONDS: Final = 60.0
"""So often the time is told again."""


SEARCH_SECONDS: Final = 0.1
"""One question for friends on a link is read in so many seconds."""


class Whereabouts:
    """What was told on one link.

    Args:
        office: the worker's shared parts.
        conversation: with the peer.
    """

    def __init__(self, office: Office, conversation: Conversation) -> None:
        self._office = office
        self._conversation = conversation
        self._told: set[bytes] = set()
        self._told_for: object = None
        self._time_told = -TIME_SECONDS
        self._left_out: list[bytes] = []
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._sought: frozenset[str] = frozenset()
        self._search_heard = -SEARCH_SECONDS

    async def tell(self, peer_id: str) -> None:
        """Tell a peer what it has not heard on this link; also look again at what was left out.

        Raises:
            LinkClosed: the link is over.
            StoreError: the database is lost.
        """
        if self._left_out:
            left_out, self._left_out = self._left_out, []
            await self._take(left_out, peer_id)
        now = asyncio.get_running_loop().time()
        if now - self._time_told >= TIME_SECONDS:
            self._time_told = now
            await self._conversation.accept_join(RECORDS_ID, {"time": round(unix_time(), 3)})
        view, records = self._office.view, self._office.records
        if not records.is_wanted(peer_id):
            return  # a stranger, as yet
        if peer_id in view.trust.friends:
            await self._seek(peer_id)
        state = (view.reach.records, records.own, view.members, records.sought_by(peer_id))
        if state == self._told_for:
            return
        self._told_for = state
        new = [one for one in await records.for_peer(peer_id) if one not in self._told]
        self._told.update(new)
        for batch in batches(new):
            await self._conversation.accept_join(RECORDS_ID, {"records": [one.hex() for one in batch]})

    async def hear(self, peer_id: str, payload: Payload) -> None:
        """The peer tells something.

        Raises:
            RemoteProtocolError: it is malformed, or a record is not signed by its peer.
            StoreError: the database is lost.
        """
        if "time" in payload:
            await self._hear_time(peer_id, payload["time"])
        if "search" in payload:
            await self._hear_search(peer_id, payload["search"])
        if "records" in payload:
            try:
                await self._take(readable(payload["records"]), peer_id)
            except IdentityError as error:
                raise RemoteProtocolError(
                    f"The other side tells peer records that cannot be taken: {error}",
                    code=error.code,
                    phase="sync",
                ) from error

    async def _seek(self, peer_id: str) -> None:
        """Ask a friend for the other friends of this database; the answer is their records."""
        sought = self._office.records.to_seek(peer_id)
        if sought != self._sought:
            self._sought = sought
            search = Search.of(self._office.key.peer_id, peer_id, self._salt, sought)
            await self._conversation.accept_join(RECORDS_ID, {"search": search.payload()})

    async def _hear_search(self, peer_id: str, told: object) -> None:
        search = Search.read(peer_id, self._office.key.peer_id, told)
        # one that asks without end reads slowly, which is its own loss
        now = asyncio.get_running_loop().time()
        self._search_heard = max(now, self._search_heard + SEARCH_SECONDS)
        await asyncio.sleep(self._search_heard - now)
        self._office.records.heard_search(search)

    async def _take(self, records: list[bytes], peer_id: str) -> None:
        self._told.update(records)
        left_out = await self._office.records.take(records, peer_id)
        self._left_out = [*self._left_out, *left_out][-LEFT_OUT_LIMIT:]

    async def _hear_time(self, peer_id: str, told: object) -> None:
        if isinstance(told, bool) or not isinstance(told, int | float):
            raise RemoteProtocolError("The other side tells its time in a malformed way.", phase="sync")
        reporter = self._office.reporter
        if abs(told - unix_time()) <= CLOCK_LEEWAY_SECONDS:
            self._office.dating.heard(peer_id, float(told))
            await reporter.solved("clock_differs", peer_id)
        elif self._office.view.shared_with(peer_id):
            await reporter.problem(
                "clock_differs",
                peer_id,
                f"The clocks of the machine of peer {peer_id} and of this one differ by more than "
                "five minutes.",
                "Set both clocks right, best by a time server.",
            )
