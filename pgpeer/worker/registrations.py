"""Keeps this worker listed in the namespaces of its bundles at one hub, and reads who else is.

What is listed is signed for two hours and stands for five minutes at a time: the same record again makes it
stand for longer, of which the hub tells nobody, so that members who stay cost each other nothing.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from pgpeer.errors import HubError, LocalProtocolError, PgpeerError
from pgpeer.signaling.backoff import next_delay
from pgpeer.signaling.membership import Membership, Space
from pgpeer.signaling.messages import CIRCUITS
from pgpeer.signaling.record import Registration
from pgpeer.transport.hub_events import MembersChanged
from pgpeer.transport.hub_link import HubClient
from pgpeer.worker.attendance import NOT_BELIEVED, Attendance
from pgpeer.worker.clock import unix_time
from pgpeer.worker.office import Office

SPACES_LIMIT: Final = 32
"""So many bundles are registered and followed at a hub; it would take twice as many."""

LEASE_SECONDS: Final = 300
"""So long a worker stays listed that does not say that it is there."""

SOONEST_SECONDS: Final = 1.0
"""No registration is renewed more often, whatever the hub grants."""

SIGNED_SECONDS: Final = 7200
"""So long a signed record holds; half of it later there is a new one. Clocks may differ by that half."""

DISCOVER_SECONDS: Final = 5.0
"""A hub that has not told after so long who is listed is asked again later: it may be telling without end."""

AGAIN_SECONDS: Final = 2.0
"""A list is asked for no more often, however often the hub says that something was missed."""

LONGEST_DELAY_SECONDS: Final = 60.0
WITHDRAW_SECONDS: Final = 1.0
"""Taking registrations back may hold up the end of a worker so long."""


@dataclass(slots=True)
class Own:
    """This worker's place in one namespace.

    Attributes:
        says: what the record in `registration` says.
        sign_at: when it is to be made anew, even if it says the same.
        renew_at: when it is to be given to the hub (again).
        is_known: whether it is known who else is listed.
        ask_at: not before is that asked for.
    """

    bundle_id: UUID
    space: Space
    says: Membership | None = None
    registration: Registration | None = None
    seq: int = 0
    sign_at: float = 0.0
    renew_at: float = 0.0
    is_known: bool = False
    ask_at: float = 0.0


class Registrations:
    """This worker at one hub, for the life of one connection.

    Args:
        office: whose bundles are registered.
        attendance: is told who is listed.
        url: of the hub, as the view names it.
        client: connected; the hub offers namespaces.
    """

    def __init__(self, office: Office, attendance: Attendance, url: str, client: HubClient) -> None:
        self._office = office
        self._attendance = attendance
        self._url = url
        self._client = client
        self._own: dict[UUID, Own] = {}
        self._bundles: dict[str, UUID] = {}
        self._changed = asyncio.Event()
        self._random = random.Random()
        self._clock = asyncio.get_running_loop().time
        self._told_refused = 0
        self._log = structlog.get_logger("pgpeer.registrations")

    def look_again(self) -> None:
        """The view, or what this worker says of itself, may have changed."""
        self._changed.set()

    def take(self, event: MembersChanged) -> None:
        """The hub tells of changes of a namespace."""
        bundle_id = self._bundles.get(event.namespace)
        if bundle_id is None:
            return
        self._attendance.changed(self._url, bundle_id, event.joined, event.left)
        self._count_refused()
        if event.missed and bundle_id in self._own:
            self._own[bundle_id].is_known = False
            self._changed.set()

    async def run(self) -> None:
        """Stay listed until cancelled, or until the connection is over."""
        failures = 0
        while not self._client.is_closed:
            self._changed.clear()
            try:
                pause = await self._round()
                failures = 0
            except PgpeerError as error:
                if self._client.is_closed:
                    return
                self._log.info("not registered", url=self._url, code=error.code, reason=str(error))
                # not at the next change of the view: the hub has said that it is too much, or is slow
                await asyncio.sleep(
                    next_delay(failures, self._random.random(), longest=LONGEST_DELAY_SECONDS)
                )
                failures += 1
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
                    await asyncio.sleep(SOONEST_SECONDS / 10)  # what changes at once is said at once
            except TimeoutError:
                pass

    async def withdraw(self) -> None:
        """Be listed no longer, if the hub can be told within a second; else the lease runs out."""
        if self._client.is_closed or not self._own:
            return
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await asyncio.gather(
                    *(self._client.unregister(own.space.name) for own in self._own.values()),
                    return_exceptions=True,
                )
        except TimeoutError:
            self._log.info("the hub was not told", url=self._url)

    async def _round(self) -> float | None:
        """Do everything that is due, and give the seconds until there is more."""
        await self._follow()
        says = self._says()
        due = [own for own in self._own.values() if self._is_due(own, says)]
        results = await asyncio.gather(*(self._settle(own, says) for own in due), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error
        if not self._own:
            return None
        return max(0.0, min(map(_next_at, self._own.values())) - self._clock())

    async def _follow(self) -> None:
        """Leave the namespaces of bundles that are no more, and follow those that are."""
        view = self._office.view
        present = sorted(one for one in view.bundles if one not in view.trust.left)
        wanted = present[:SPACES_LIMIT]  # of too many all workers take the same ones first: they meet there
        if wanted == list(self._own):
            return
        if len(present) > SPACES_LIMIT:
            self._log.warning("bundles are not registered", url=self._url, count=len(present) - SPACES_LIMIT)
        for bundle_id in [one for one in self._own if one not in wanted]:
            await self._client.unregister(self._own[bundle_id].space.name)
            del self._own[bundle_id]
            self._attendance.forget(self._url, bundle_id)
        for bundle_id in wanted:
            space = self._attendance.space(bundle_id)
            self._own.setdefault(bundle_id, Own(bundle_id, space))
        self._own = {one: self._own[one] for one in wanted}
        self._bundles = {own.space.name: one for one, own in self._own.items()}
        await self._client.follow(self._bundles)
        for own in self._own.values():
            own.is_known, own.ask_at = False, 0.0  # the hub drops what waited of all

    def _is_due(self, own: Own, says: Membership) -> bool:
        return own.says != says or self._clock() >= _next_at(own)

    async def _settle(self, own: Own, says: Membership) -> None:
        failure = None
        if not own.is_known and self._clock() >= own.ask_at:
            own.is_known, own.ask_at = True, self._clock() + AGAIN_SECONDS
            try:
                await self._discover(own)
            except HubError as error:
                own.is_known = False
                failure = error  # others shall know of this worker all the same
        now = self._clock()
        if own.registration is None or own.says != says or now >= own.sign_at:
            self._sign(own, says)
        if now >= own.renew_at:
            await self._register(own)
        if failure is not None:
            raise failure

    async def _discover(self, own: Own) -> None:
        """Read who is listed."""
        self._attendance.begin(self._url, own.bundle_id)
        try:
            async with asyncio.timeout(DISCOVER_SECONDS):
                found = (await self._client.discover(own.space.name)).registrations
        except BaseException as error:
            self._attendance.failed(self._url, own.bundle_id)
            if isinstance(error, TimeoutError):
                raise HubError(
                    "The hub does not come to an end with who is listed.", code="timeout", phase="signalling"
                ) from error
            raise
        finally:
            self._count_refused()
        for one in found:
            if one.peer_id == self._office.key.peer_id:
                own.seq = max(own.seq, one.seq)
        self._attendance.whole(self._url, own.bundle_id, found)

    def _says(self) -> Membership:
        """Give what others shall know: that this hub relays to this worker, and its addresses."""
        relay = self._client.url if CIRCUITS in self._client.features else ""
        return Membership(relay, self._office.records.own or b"")

    def _sign(self, own: Own, says: Membership) -> None:
        peer_id = self._office.key.peer_id
        try:
            body = own.space.seal(peer_id, says)
        except LocalProtocolError as error:
            self._log.warning("the addresses of this worker are not registered", reason=str(error))
            body = own.space.seal(peer_id, Membership(says.relay))
        now = unix_time()
        own.seq = max(own.seq + 1, int(now * 1000))
        own.registration = Registration(peer_id, own.space.name, own.seq, int(now) + SIGNED_SECONDS, body)
        own.says = says
        own.sign_at = self._clock() + SIGNED_SECONDS / 2
        own.renew_at = 0.0

    async def _register(self, own: Own) -> None:
        assert own.registration is not None
        is_new = own.renew_at == 0.0
        try:
            granted = await self._client.register(own.registration, LEASE_SECONDS)
        except HubError as error:
            if error.code == "replay":  # it has a later one, of a clock that was ahead
                own.registration, own.is_known = None, False
            raise
        own.renew_at = self._clock() + max(granted * self._random.uniform(0.4, 0.5), SOONEST_SECONDS)
        if is_new:
            bundle = self._office.view.bundles.get(own.bundle_id)
            name = bundle.name if bundle is not None else ""
            relay = own.says.relay if own.says is not None else ""
            self._log.info("registered", url=self._url, bundle=name, relay=relay, seconds=granted)

    def _count_refused(self) -> None:
        refused = self._client.refused_records
        self._attendance.refuse(self._url, NOT_BELIEVED, refused - self._told_refused)
        self._told_refused = refused


def _next_at(own: Own) -> float:
    """When something is to be done."""
    renew_at = min(own.sign_at, own.renew_at)
    return renew_at if own.is_known else min(renew_at, own.ask_at)
