"""Who is listed in the bundles' namespaces at the hubs, and what members say there of where they are.

A hub can hide who is listed, and repeat what was true before, but cannot invent a member: only peers that
grants have made members count, by their signatures. Of all others a few are kept: they may become members.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

import structlog

from pgpeer.errors import IdentityError, RemoteProtocolError
from pgpeer.identity.notice import read_peer_record
from pgpeer.signaling.membership import Space
from pgpeer.signaling.record import Registration
from pgpeer.worker.office import Office

PACE_SECONDS: Final = 0.5
"""Changes of so much time are taken together: a hub that tells of more makes no more work."""

STRANGERS_LIMIT: Final = 256
"""So many registrations of peers that are no members (yet) are kept of one hub, the newest."""

TOLD_SECONDS: Final = 60.0
"""What was refused is told no more often than this."""

NAMED_LIMIT: Final = 8
"""So many peers are named in one line of the log."""

NOT_BELIEVED: Final = "not_believed"
"""In place of a code, of what the connection refused: forged, expired, or older than what is known."""

NOT_A_MEMBER: Final = "not_a_member"

Place = tuple[UUID, str]
"""A bundle, and a peer that is listed in its namespace."""


class Watcher(Protocol):
    """Who wants to know of members that come and go."""

    def listed(self, url: str, peer_id: str) -> None:
        """A member is listed at a hub, where it was in no namespace before."""

    def unlisted(self, url: str, peer_id: str) -> None:
        """A member is in no namespace of a hub any more."""


@dataclass(slots=True)
class Board:
    """What one hub lists.

    Attributes:
        members: their registrations, by bundle.
        strangers: registrations of others, oldest first.
        reading: bundles whose list is asked for, with who came (True) or left (False) since it was.
        came: who was not told of yet, with the relay that leads there.
        went: likewise.
        refused: how often something was not taken, by code, since it was told.
    """

    members: dict[str, dict[UUID, Registration]] = field(default_factory=dict)
    strangers: dict[Place, Registration] = field(default_factory=dict)
    reading: dict[UUID, dict[str, bool]] = field(default_factory=dict)
    came: dict[str, str] = field(default_factory=dict)
    went: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    told_at: float = float("-inf")


class Attendance:
    """The lists of all hubs.

    Args:
        office: whose view says who is a member, and whose records take what members say.
        watcher: hears of members.
    """

    def __init__(self, office: Office, watcher: Watcher) -> None:
        self._office = office
        self._watcher = watcher
        self._boards: dict[str, Board] = {}
        self._spaces: dict[UUID, Space] = {}
        self._pending: dict[str, tuple[int, bytes]] = {}
        self._taken: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self.refused: Counter[str] = Counter()
        """How often something was not taken, by code."""
        self._log = structlog.get_logger("pgpeer.attendance")

    # Called by others; none of these wait.

    def space(self, bundle_id: UUID) -> Space:
        """Give the namespace of a bundle."""
        if bundle_id not in self._spaces:
            self._spaces[bundle_id] = Space(bundle_id.bytes)
        return self._spaces[bundle_id]

    def is_listed(self, url: str, peer_id: str) -> bool:
        """Whether a member is listed at a hub in any common bundle."""
        return url in self._boards and peer_id in self._boards[url].members

    def members(self, url: str) -> set[str]:
        """Give the members that are listed at a hub."""
        return set(self._boards[url].members) if url in self._boards else set()

    def follow_view(self) -> None:
        """The office has a new view: who was a stranger may be a member now, and the reverse."""
        view = self._office.view
        for url, board in self._boards.items():
            for peer_id, listed in list(board.members.items()):
                shared = view.shared_with(peer_id)
                for bundle_id in [one for one in listed if one not in shared]:
                    self._keep_aside(board, bundle_id, listed[bundle_id])
                    self._remove(url, board, bundle_id, peer_id)
            for (bundle_id, peer_id), registration in list(board.strangers.items()):
                if bundle_id in view.shared_with(peer_id):
                    del board.strangers[bundle_id, peer_id]
                    self._add(url, board, bundle_id, registration)
        self._taken = {one: seq for one, seq in self._taken.items() if one in view.members}
        self._spaces = {one: space for one, space in self._spaces.items() if one in view.bundles}

    def begin(self, url: str, bundle_id: UUID) -> None:
        """A bundle's list is asked for at a hub: `whole` or `failed` follows."""
        self._board(url).reading[bundle_id] = {}

    def failed(self, url: str, bundle_id: UUID) -> None:
        """The list was not given."""
        if url in self._boards:
            self._boards[url].reading.pop(bundle_id, None)

    def whole(self, url: str, bundle_id: UUID, registrations: Iterable[Registration]) -> None:
        """A hub gave the list of a bundle; who is not in it has left, unless it came meanwhile."""
        board = self._board(url)
        meanwhile = board.reading.pop(bundle_id, {})
        found = {one.peer_id: one for one in registrations if meanwhile.get(one.peer_id, True)}
        stay = found.keys() | {peer_id for peer_id, is_there in meanwhile.items() if is_there}
        for peer_id in [one for one, listed in board.members.items() if bundle_id in listed]:
            if peer_id not in stay:
                self._remove(url, board, bundle_id, peer_id)
        for place in [one for one in board.strangers if one[0] == bundle_id and one[1] not in stay]:
            del board.strangers[place]
        for registration in found.values():
            self._add(url, board, bundle_id, registration)

    def changed(self, url: str, bundle_id: UUID, joined: Iterable[Registration], left: Iterable[str]) -> None:
        """A hub told of changes of a bundle's list; signatures are checked."""
        board = self._board(url)
        meanwhile = board.reading.get(bundle_id)
        for peer_id in left:
            if meanwhile is not None and bundle_id in self._office.view.shared_with(peer_id):
                meanwhile[peer_id] = False
            board.strangers.pop((bundle_id, peer_id), None)
            self._remove(url, board, bundle_id, peer_id)
        for registration in joined:
            self._add(url, board, bundle_id, registration)

    def refuse(self, url: str, code: str, count: int = 1) -> None:
        """Something that a hub told was not taken."""
        if count:
            self.refused[code] += count
            if url in self._boards:
                self._boards[url].refused[code] += count
                self._wake.set()

    def forget(self, url: str, bundle_id: UUID) -> None:
        """A bundle's namespace is not followed at a hub any more."""
        board = self._board(url)
        board.reading.pop(bundle_id, None)
        for place in [one for one in board.strangers if one[0] == bundle_id]:
            del board.strangers[place]
        for peer_id in list(board.members):
            self._remove(url, board, bundle_id, peer_id)

    def lost(self, url: str) -> None:
        """The connection to a hub is over: nothing is known of it any more."""
        board = self._boards.pop(url, None)
        for peer_id in board.members if board is not None else ():
            self._watcher.unlisted(url, peer_id)

    # Running.

    async def run(self) -> None:
        """Take the records of members, and tell who came and went, until cancelled.

        Raises:
            StoreError: the database is lost.
        """
        while True:
            await self._wake.wait()
            await asyncio.sleep(PACE_SECONDS)
            self._wake.clear()
            pending, self._pending = self._pending, {}
            for peer_id, (seq, record) in pending.items():
                if not await self._office.records.take([record], peer_id):
                    self._taken[peer_id] = max(seq, self._taken.get(peer_id, 0))
            for url, board in self._boards.items():
                self._tell(url, board)

    def _board(self, url: str) -> Board:
        return self._boards.setdefault(url, Board())

    def _add(self, url: str, board: Board, bundle_id: UUID, registration: Registration) -> None:
        peer_id = registration.peer_id
        if peer_id == self._office.key.peer_id:
            return
        if bundle_id not in self._office.view.shared_with(peer_id):
            self.refuse(url, NOT_A_MEMBER)
            self._keep_aside(board, bundle_id, registration)
            return
        if bundle_id in board.reading:
            board.reading[bundle_id][peer_id] = True
        known = board.members.get(peer_id, {}).get(bundle_id)
        if known is not None and registration.seq <= known.seq:
            return
        try:
            relay = self._read(bundle_id, registration)
        except (RemoteProtocolError, IdentityError) as error:
            self.refuse(url, error.code)
            return
        is_new = peer_id not in board.members
        board.members.setdefault(peer_id, {})[bundle_id] = registration
        if is_new:
            board.came[peer_id] = relay
            board.went.discard(peer_id)
            self._wake.set()
            self._watcher.listed(url, peer_id)

    def _read(self, bundle_id: UUID, registration: Registration) -> str:
        """Take note of what a member says, and give the relay that leads to it."""
        peer_id = registration.peer_id
        said = self.space(bundle_id).read(registration)
        if not said.record:
            return said.relay
        record = read_peer_record(said.record)
        if record.peer_id != peer_id:
            raise RemoteProtocolError(
                "A registration holds the record of somebody else.",
                code="identity_mismatch",
                phase="signalling",
            )
        waiting = self._pending.get(peer_id, (0, b""))[0]
        if record.seq > max(waiting, self._taken.get(peer_id, 0)):
            self._pending[peer_id] = record.seq, said.record
            self._wake.set()
        return said.relay

    def _remove(self, url: str, board: Board, bundle_id: UUID, peer_id: str) -> None:
        listed = board.members.get(peer_id, {})
        if listed.pop(bundle_id, None) is None or listed:
            return
        del board.members[peer_id]
        board.came.pop(peer_id, None)
        board.went.add(peer_id)
        self._wake.set()
        self._watcher.unlisted(url, peer_id)

    @staticmethod
    def _keep_aside(board: Board, bundle_id: UUID, registration: Registration) -> None:
        place = bundle_id, registration.peer_id
        board.strangers.pop(place, None)
        board.strangers[place] = registration
        if len(board.strangers) > STRANGERS_LIMIT:
            del board.strangers[next(iter(board.strangers))]

    def _tell(self, url: str, board: Board) -> None:
        if board.came or board.went:
            self._log.info(
                "members listed",
                url=url,
                count=len(board.members),
                came=dict(sorted(board.came.items())[:NAMED_LIMIT]),
                went=sorted(board.went)[:NAMED_LIMIT],
            )
            board.came.clear()
            board.went.clear()
        if board.refused and self._clock() >= board.told_at + TOLD_SECONDS:
            board.told_at = self._clock()
            self._log.info("registrations not taken", url=url, **board.refused)
            board.refused.clear()
