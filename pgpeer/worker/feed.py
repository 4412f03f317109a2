"""Sends one peer what it lacks of one bundle, parents first, in bounded memory."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.store import commits
from pgpeer.store.commits import SignedCommit, vector_document
from pgpeer.store.database import Connection
from pgpeer.worker.conversation import Conversation

DIRECT_COMMITS: Final = 64
"""So many small commits may wait in memory; beyond that they are read from the database again."""

REMEMBERED_COMMITS: Final = 4096
"""So many commits that came from the peer are remembered, in order not to send them back."""


class Feed:
    """What one peer gets of one bundle.

    New small commits are handed over with `push` and go out at once. Everything else is found by asking the
    database what follows the last position that is settled.
    """

    def __init__(self, bundle_id: UUID, conversation: Conversation, reader: Connection) -> None:
        self._bundle_id = bundle_id
        self._conversation = conversation
        self._reader = reader
        self._wake = asyncio.Event()
        self._vector: str | None = None
        self._entries: Sequence[VectorEntry] = ()
        self._partial: Mapping[bytes, Sequence[int]] = {}
        self._settled = 0
        """Up to this position everything is sent, waits in `_direct`, or is not lacked."""
        self._is_stale = False
        self._direct: deque[SignedCommit] = deque()
        self._received: OrderedDict[bytes, None] = OrderedDict()

    def begin(self, entries: Sequence[VectorEntry], partial: Mapping[bytes, Sequence[int]]) -> None:
        """The peer says what it has: start from there."""
        self._entries = entries
        self._vector = json.dumps(vector_document(entries))
        self._partial = dict(partial)
        self._settled = 0
        self._direct.clear()
        self.look_again()

    def acknowledged(self, entries: Sequence[VectorEntry]) -> None:
        """The peer has merged this much. What it stored before, and holds, it need not get again."""
        if self._vector is not None:
            self._entries = furthest(self._entries, entries)
            self._vector = json.dumps(vector_document(self._entries))

    def received(self, digest: bytes) -> None:
        """The peer sent this commit itself."""
        self._received[digest] = None
        if len(self._received) > REMEMBERED_COMMITS:
            self._received.popitem(last=False)

    def push(self, commit: SignedCommit) -> None:
        """A commit was signed here."""
        if (
            self._vector is not None
            and not self._is_stale
            and commit.data is not None
            and commit.position_before <= self._settled
            and len(self._direct) < DIRECT_COMMITS
        ):
            self._direct.append(commit)
            self._settled = max(self._settled, commit.position)
            self._wake.set()
        else:
            self.look_again()

    def look_again(self) -> None:
        """Commits were merged here."""
        self._is_stale = True
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            LinkClosed: the conversation is over.
            StoreError: the database refused.
        """
        while True:
            while self._direct:
                await self._send(self._direct.popleft())
            if self._is_stale and self._vector is not None:
                self._is_stale = False
                await self._send_page(self._vector)
            elif not self._direct:
                self._wake.clear()
                await self._wake.wait()

    async def _send_page(self, vector: str) -> None:
        found, settled = await commits.page(self._reader, self._bundle_id, vector, self._settled)
        for commit in found:
            if self._vector is None or commit.position > self._settled:
                self._settled = commit.position
                await self._send(commit)
        self._settled = max(self._settled, settled)
        if len(found) == commits.PAGE_COMMITS:
            self._is_stale = True

    async def _send(self, commit: SignedCommit) -> None:
        if commit.digest in self._received:
            return
        await self._conversation.send_commit(self._bundle_id, commit.header, commit.signature)
        held = self._partial.get(commit.digest, ())
        for number in range(1, commit.section_count + 1):
            if number in held:
                continue
            if commit.data is not None:
                data = commit.data[number - 1].encode()
            else:
                data = await commits.section(self._reader, commit.digest, number)
            await self._conversation.send_section(self._bundle_id, commit.digest, number, data)


def furthest(one: Sequence[VectorEntry], other: Sequence[VectorEntry]) -> list[VectorEntry]:
    """Of each author's line the entries that reach further."""
    lines: dict[tuple[bytes, int], list[VectorEntry]] = {}
    for entries in (one, other):
        found: dict[tuple[bytes, int], list[VectorEntry]] = {}
        for entry in entries:
            found.setdefault((entry.author, entry.epoch), []).append(entry)
        for line, branches in found.items():
            if line not in lines or max(e.seq for e in branches) >= max(e.seq for e in lines[line]):
                lines[line] = branches
    return [entry for branches in lines.values() for entry in branches]
