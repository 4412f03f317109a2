"""What devices of one owner tell each other over a link: what their owner has said of each of them.

So a revocation that one device was given reaches the others, and each knows the rest. A word is signed by the
owner, so it does not matter who tells it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.device import read_device
from pgpeer.protocol.messages import Payload
from pgpeer.store import devices
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.office import Office
from pgpeer.worker.registry import readable

DEVICES_ID: Final = UUID(int=1)
"""In place of a bundle, in the message that tells of devices: they are of no bundle."""


class Household:
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

    async def tell(self, peer_id: str) -> None:
        """Tell another device what it has not heard on this link; nobody else hears of devices.

        Raises:
            LinkClosed: the link is over.
            StoreError: the database is lost.
        """
        trust = self._office.view.trust
        state = (trust.owner, trust.device_words)
        if peer_id not in trust.devices or state == self._told_for:
            return
        self._told_for = state
        known = await devices.device_records(self._office.connections.desk)
        new = [record for record in known if record not in self._told]
        self._told.update(new)
        if new:
            await self._conversation.accept_join(DEVICES_ID, {"devices": [one.hex() for one in new]})

    async def hear(self, peer_id: str, payload: Payload) -> None:
        """The peer tells what an owner has said; words of another owner than ours change nothing.

        Raises:
            RemoteProtocolError: it is malformed, or not signed by the owner that it names.
            StoreError: the database is lost.
        """
        is_news = False
        try:
            for record in readable(payload.get("devices")):
                word = read_device(record)
                if word.certificate.owner == self._office.view.trust.owner:
                    self._told.add(record)
                    outcome = await devices.store_device(self._office.connections.desk, word, peer_id)
                    is_news |= outcome == "new"
        except IdentityError as error:
            raise RemoteProtocolError(
                f"The other side tells device certificates that cannot be taken: {error}",
                code=error.code,
                phase="sync",
            ) from error
        if is_news:
            self._office.changed.set()
