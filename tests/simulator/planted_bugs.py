"""Sessions with one bug each, of the kinds that are easily made and hard to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pgpeer.commit.header import Header
from pgpeer.commit.vector import VectorEntry
from pgpeer.protocol import events, limits, messages
from pgpeer.protocol.framing import Lane
from pgpeer.protocol.session import Session
from pgpeer.protocol.states import State


class AcknowledgesOnArrival(Session):
    """Acknowledges a commit when it has arrived, not when it is durable."""

    def _on_commit(self, message: messages.Commit, now: float) -> None:
        super()._on_commit(message, now)
        header = Header.decode(message.header)
        entry = VectorEntry(header.author, header.epoch, header.seq, header.digest)
        self.send_acknowledgement(message.bundle_id, [entry])


class LosesCredit(Session):
    """Now and then forgets to give credit back."""

    granted = 0

    def grant(self, count: int) -> None:
        self.granted += 1
        if self.granted % 5:
            super().grant(count)


class GrantsTwice(Session):
    """Now and then gives the same credit back twice."""

    def _on_grant(self, message: messages.Grant, now: float) -> None:
        super()._on_grant(message, now)
        if self._time.heard > 5.0:
            super()._on_grant(message, now)


class SendsWithoutCredit(Session):
    """Sends whatever waits, granted or not."""

    def next_frame(self) -> bytes | None:
        found = self._outbox.next_frame(limits.MAX_FRAME_BYTES)
        if found is None:
            return None
        self._credit.to_send = max(0, self._credit.to_send - found[1])
        return found[0]


class WaitsForHalfTheCredit(Session):
    """Sends no data before much more may be sent than it has to send."""

    def next_frame(self) -> bytes | None:
        if self._credit.to_send > limits.CREDIT_WINDOW_BYTES - limits.GRANT_STEP_BYTES:
            return super().next_frame()
        found = self._outbox.next_frame(0)
        return found[0] if found is not None else None


class ClaimsOneCommitTooMany(Session):
    """Resumes one commit too late."""

    def send_vector(
        self,
        bundle_id: UUID,
        entries: Sequence[VectorEntry],
        partial: Mapping[bytes, Sequence[int]] | None = None,
    ) -> None:
        super().send_vector(bundle_id, [replace(e, seq=e.seq + 1) for e in entries], partial)


class ClaimsOneSectionTooMany(Session):
    """Resumes a large commit one section too late."""

    def send_vector(
        self,
        bundle_id: UUID,
        entries: Sequence[VectorEntry],
        partial: Mapping[bytes, Sequence[int]] | None = None,
    ) -> None:
        held = {
            digest: [*numbers, max(numbers, default=0) + 1] for digest, numbers in (partial or {}).items()
        }
        super().send_vector(bundle_id, entries, held)


class TakesEveryDigestAsItsOwn(Session):
    """Believes that the other side has what this side has."""

    def _on_vector_digest(self, message: messages.VectorDigest, now: float) -> None:
        told = self._announcements._told.get(message.bundle_id)
        if told is None:
            super()._on_vector_digest(message, now)
        else:
            self._events.append(events.VectorReceived(message.bundle_id, told[0].entries, {}))


class LastComesFirst(Session):
    """Lets a later commit or section pass one that waits."""

    def _send_data(self, message: Any) -> None:
        super()._send_data(message)
        queue = self._outbox._lanes[Lane.DATA]
        if len(queue) > 2:
            queue[-1], queue[-2] = queue[-2], queue[-1]


class SkipsASection(Session):
    """Loses one of many sections without a word."""

    sections = 0

    def _on_section(self, message: messages.Section, now: float) -> None:
        self.sections += 1
        if self.sections % 7:
            super()._on_section(message, now)


class HandsOutTwice(Session):
    """Tells its owner of one of many sections twice."""

    sections = 0

    def _on_section(self, message: messages.Section, now: float) -> None:
        super()._on_section(message, now)
        self.sections += 1
        if self.sections % 7 == 0:
            self._events.append(self._events[-1])


class NeverGivesUp(Session):
    """Waits forever for a side that has gone."""

    def tick(self, now: float) -> None:
        self._time.heard = now if self.state is State.ESTABLISHED else self._time.heard
        self._time._unanswered = False
        super().tick(now)


class IsImpatient(Session):
    """Gives up a side that is slow to answer."""

    def tick(self, now: float) -> None:
        if self.state is State.ESTABLISHED and self._time._unanswered:
            self._close("timeout", "transfer", "No answer.", retryable=True)
        super().tick(now)

    def next_deadline(self) -> float | None:
        deadline = super().next_deadline()
        waits = self.state is State.ESTABLISHED and self._time._unanswered
        return self._time._pinged + 0.3 if waits and deadline is not None else deadline


class UnpacksTheBeginning(Session):
    """Forgets the last byte of a packed section."""

    def unpack(self, event: events.SectionReceived) -> events.SectionReceived:
        opened = super().unpack(event)
        return replace(opened, data=opened.data[:-1]) if event.packed else opened


class AsksAgainAndAgain(Session):
    """Tells the same deadline again after it was kept."""

    def tick(self, now: float) -> None:
        if self.state is State.ESTABLISHED:
            return
        super().tick(now)
