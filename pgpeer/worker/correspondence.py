"""Friendship by letter: what people here say is signed and left at a hub; what others say is taken there.

Letters reach peers that are absent, and strangers, with whom there is no link. A letter may come twice or by
several hubs: the numbers of the notices in them tell.
"""

from __future__ import annotations

import secrets
from typing import Final

import structlog

from pgpeer.errors import HubError, IdentityError, PgpeerError, RemoteProtocolError
from pgpeer.identity.notice import NOTE_CHARACTERS_LIMIT, FriendNotice, read_notice, sign_notice
from pgpeer.identity.record import record_digest
from pgpeer.signaling.letter import ID_BYTES, LONGEST_SECONDS, Letter, read_letter, sign_letter
from pgpeer.store import devices, members
from pgpeer.transport.hub_events import LetterReceived
from pgpeer.transport.hub_link import HubClient
from pgpeer.worker.clock import unix_time
from pgpeer.worker.office import Office

SUBJECT: Final = "friend"

SHOWN_WITH: Final = frozenset({"request", "accept"})
"""The notices with which this database shows that it is a device of its owner."""


class Correspondence:
    """The letters of one worker."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._log = structlog.get_logger("pgpeer.correspondence")

    async def post(self, client: HubClient) -> None:
        """Leave at a hub what waits to be said. What it does not take waits for the next time."""
        desk = self._office.connections.desk
        key = self._office.key
        waiting = await members.notices(desk)
        device = await devices.own_certificate(desk) if waiting else b""
        for notice in waiting:
            record = sign_notice(
                key,
                notice.peer_id,
                notice.kind,
                notice.number,
                label=notice.label,
                note=notice.note[:NOTE_CHARACTERS_LIMIT],
                subject=notice.subject,
                device=device if notice.kind in SHOWN_WITH else b"",
            )
            expires = int(unix_time()) + LONGEST_SECONDS
            letter = Letter(
                secrets.token_bytes(ID_BYTES), key.peer_id, notice.peer_id, SUBJECT, record.hex(), expires
            )
            try:
                await client.post_letter(notice.peer_id, sign_letter(key, letter), LONGEST_SECONDS)
            except HubError as error:
                self._log.info("a letter waits", peer=notice.peer_id, reason=str(error))
                return
            await members.told(desk, notice.number)

    async def received(self, client: HubClient, event: LetterReceived) -> None:
        """Act upon a letter and take it; one that is forged or malformed is only taken.

        Raises:
            StoreError: the database is lost; the letter comes again.
        """
        try:
            letter = read_letter(
                event.plaintext, sender=event.sender, recipient=self._office.key.peer_id, now=unix_time()
            )
            if letter.subject == SUBJECT:
                await self._hear(letter)
        except (RemoteProtocolError, IdentityError, ValueError) as error:
            self._log.warning("a letter was refused", peer=event.sender, reason=str(error))
        try:
            await client.take_letters([event.number])
        except PgpeerError as error:
            self._log.info("a letter comes again", reason=str(error))  # the hub is gone

    async def _hear(self, letter: Letter) -> None:
        record = bytes.fromhex(letter.body)
        notice: FriendNotice = read_notice(record, recipient=self._office.key.peer_id)
        if notice.sender != letter.sender:
            raise IdentityError("A letter holds the word of somebody else.")
        desk = self._office.connections.desk
        # before a request is answered: that of a device of the same owner is accepted by itself
        trusted = None if notice.device is None else await devices.store_device(desk, notice.device, None)
        outcome = await members.hear(desk, notice, record_digest(record), record)
        if notice.device is not None and trusted == "foreign":
            await devices.store_device(desk, notice.device, None)  # now that people may know it
        self._log.info("a letter was read", peer=notice.sender, kind=notice.kind, outcome=outcome)
