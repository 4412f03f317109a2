"""What a hub does with what its clients ask for; the server brings the frames and takes them away."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from pgpeer.errors import HubError, PgpeerError, RemoteProtocolError
from pgpeer.hub.forwarding import Forwarding
from pgpeer.hub.mailroom import Mailroom
from pgpeer.hub.rates import REQUEST, SIGNAL, Rates
from pgpeer.hub.rendezvous import Rendezvous
from pgpeer.hub.store import (
    Elsewhere,
    FateNotice,
    HubStore,
    MailNotice,
    NamespaceNotice,
    Notice,
    PresenceNotice,
    SignalNotice,
)
from pgpeer.hub.switchboard import Switchboard
from pgpeer.signaling.messages import (
    CIRCUITS,
    Accept,
    AskTurn,
    Credit,
    Discover,
    End,
    Follow,
    HubMessage,
    OpenCircuit,
    Post,
    Register,
    Shut,
    Taken,
    Unregister,
)
from pgpeer.signaling.relay import Relay
from pgpeer.signaling.server import (
    CircuitData,
    PeerAuthenticated,
    Request,
    ServerConversation,
    ServerEvent,
    SignalRequested,
    WatchRequested,
)
from pgpeer.signaling.turn import TurnService

STORE_SECONDS: Final = 10.0
"""A request that the store does not answer for so long is refused."""


class Desk:
    """Everything that the conversations of one hub process share."""

    def __init__(
        self,
        store: HubStore,
        turn: TurnService | None,
        clock: Callable[[], float],
        wake: Callable[[ServerConversation], None],
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        """Begin with nobody online.

        Args:
            store: keeps what outlives a connection.
            turn: the TURN servers to give credentials for, if there are any.
            clock: gives monotonic seconds.
            wake: called with every conversation that has something to send.
            spawn: runs something beside the conversations.
        """
        self._store = store
        self._turn = turn
        self._clock = clock
        self._wake = wake
        self._spawn = spawn
        limits = store.limits
        self.switchboard = Switchboard(limits)
        self.relay = Relay(limits, clock())
        self.rendezvous = Rendezvous(store, wake)
        self.mailroom = Mailroom(store, wake)
        self._forwarding = Forwarding(store)
        self._rates = Rates(limits)
        self.tally: Counter[tuple[str, str]] = Counter()
        """How often something happened: what, and how it went."""
        self.announced = asyncio.Event()
        self.claimed = asyncio.Event()

    async def handle(self, conversation: ServerConversation, address: str, event: ServerEvent) -> None:
        """Do what a client asks for; one that breaks the rules of circuits is closed."""
        now = self._clock()
        try:
            match event:
                case PeerAuthenticated():
                    self.switchboard.admit(conversation, event)
                    if not conversation.is_closed and not conversation.visitor:
                        self.mailroom.enter(conversation)
                        self.announced.set()
                    self.look_for_mail()
                case WatchRequested():
                    self.switchboard.watch(conversation, event)
                case SignalRequested():
                    await self._signal(conversation, address, event)
                case Follow():
                    self.rendezvous.follow(conversation, event)
                case Taken():
                    await self._taken(conversation, event)
                case CircuitData(number, payload):
                    self.relay.data(conversation, number, payload, now)
                    self.deal()
                case Accept(number):
                    self.relay.accept(conversation, number, now)
                case Credit(number, size):
                    self.relay.credit(conversation, number, size)
                case End(number):
                    self.relay.end(conversation, number)
                case Shut(number, code, detail):
                    self.relay.shut(conversation, number, code, detail)
                case _:
                    await self._answer(conversation, address, event)
        except RemoteProtocolError as error:
            conversation.close(error)
        self.wake_touched()

    def leave(self, conversation: ServerConversation) -> None:
        """A connection has ended, or is as good as ended. Twice does nothing."""
        self.switchboard.leave(conversation)
        self.relay.leave(conversation)
        self.rendezvous.leave(conversation)
        self.mailroom.leave(conversation)
        self.announced.set()
        self.wake_touched()

    def hear(self, notice: Notice) -> None:
        """Take a notice of this or another process."""
        match notice:
            case NamespaceNotice():
                self.rendezvous.hear(notice)
            case MailNotice(peer_id):
                found = self.switchboard.find(peer_id)
                if isinstance(found, ServerConversation):
                    self.mailroom.arrived(found)
                    self.look_for_mail()
            case PresenceNotice(process):
                if process != self._store.process:
                    self.switchboard.hear(notice)
            case SignalNotice():
                self._spawn(self._forwarding.answer(notice, self._hand_over(notice)))
            case FateNotice():
                self._forwarding.settle(notice)
        self.wake_touched()

    def look_for_mail(self) -> None:
        """Deliver mail to whom it can be delivered."""
        for conversation in self.mailroom.due():
            self._spawn(self._deliver(conversation))

    def wake_touched(self) -> None:
        """Wake all that have something to send."""
        for conversation in self.switchboard.take_touched():
            self._wake(conversation)
        for party in self.relay.take_touched():
            if isinstance(party, ServerConversation):
                self._wake(party)

    def deal(self) -> None:
        """Give bytes that wait in circuits their allowances; sets `claimed` while some still wait."""
        self.relay.deal(self._clock())
        if self.relay.has_claims:
            self.claimed.set()
        else:
            self.claimed.clear()
        self.wake_touched()

    def tick(self) -> None:
        """Do what is due every second."""
        self.relay.tick(self._clock())
        self.look_for_mail()
        self.wake_touched()

    async def _signal(self, sender: ServerConversation, address: str, event: SignalRequested) -> None:
        """Hand a signal to its recipient and tell the sender what became of it."""
        self._wake(sender)
        refusal = self._rates.refusal(SIGNAL, sender.peer_id, address, self._clock())
        if refusal is not None:
            self._refuse(sender, event.request, refusal)
            return
        found = self.switchboard.find(event.to)
        if isinstance(found, Elsewhere):
            fate = await self._forwarding.send(found, sender.peer_id, event)
        else:
            fate = self._push(found, sender.peer_id, event.sid, event.box)
        self.tally["signal", fate] += 1
        if fate in ("delivered", "offline"):
            sender.report_delivery(event.request, fate == "delivered")
        else:
            self._refuse(sender, event.request, _unsettled(fate))

    def _push(self, target: ServerConversation | None, sender: str, sid: str, box: bytes) -> str:
        if target is None:
            return "offline"
        self._wake(target)
        return "delivered" if target.push_signal(sender, sid, box) else "target_overloaded"

    def _hand_over(self, notice: SignalNotice) -> str:
        found = self.switchboard.find(notice.to)
        here = found if isinstance(found, ServerConversation) else None
        return self._push(here, notice.sender, notice.sid, notice.box)

    async def _answer(self, conversation: ServerConversation, address: str, event: Request) -> None:
        """Answer a request, or refuse it; the conversation goes on."""
        kind = type(event).__name__.lower()
        self._wake(conversation)
        try:
            refusal = self._rates.refusal(REQUEST, conversation.peer_id, address, self._clock())
            if refusal is not None:
                raise refusal
            async with asyncio.timeout(STORE_SECONDS):
                reply = await self._reply(conversation, event)
        except HubError as error:
            self._refuse(conversation, event.request, error)
            return
        except TimeoutError:
            self._refuse(conversation, event.request, _unsettled("timeout"))
            return
        self.tally[kind, "done"] += 1
        if reply is not None:
            conversation.push(reply)

    async def _reply(self, conversation: ServerConversation, event: Request) -> HubMessage | None:
        if conversation.visitor and not isinstance(event, OpenCircuit):
            raise HubError(
                "A visitor opens circuits only.", code="refused_policy", phase="signalling", retryable=False
            )
        match event:
            case Register():
                unix_now = time.time()  # noqa: TID251 - records expire by the calendar
                return await self.rendezvous.register(conversation, event, unix_now)
            case Unregister():
                return await self.rendezvous.unregister(conversation, event)
            case Discover():
                return await self.rendezvous.discover(event)
            case Post():
                return await self.mailroom.post(conversation, event)
            case AskTurn(request):
                assert self._turn is not None  # the hub offers it only then
                unix_now = time.time()  # noqa: TID251 - so does what the TURN server checks
                seconds = self._store.limits.turn_seconds
                return self._turn.offer(request, conversation.peer_id, unix_now, seconds)
            case OpenCircuit():
                await self._open(conversation, event)
                return None

    async def _open(self, conversation: ServerConversation, event: OpenCircuit) -> None:
        found = self.switchboard.find(event.to)
        if found is None:
            raise HubError(
                "That peer is not online at this hub.",
                remedy="Wait until it is, or leave a letter.",
                code="peer_offline",
                phase="signalling",
            )
        if isinstance(found, Elsewhere):
            url = await self._store.url_of(found.process)
            error = HubError(
                "That peer is connected to another process of this hub.",
                remedy="Open the circuit there.",
                code="relay_refused",
                phase="signalling",
            )
            self.tally["opencircuit", "elsewhere"] += 1
            conversation.refuse(event.request, error, url or None)
            return
        if CIRCUITS not in found.features:
            raise HubError(
                "That peer's worker takes no circuits.",
                remedy="Install the newest pgpeer there.",
                code="relay_refused",
                phase="signalling",
                retryable=False,
            )
        self.relay.open(conversation, event.request, found, self._clock())

    async def _taken(self, conversation: ServerConversation, event: Taken) -> None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self.mailroom.take(conversation, event)
        except (HubError, TimeoutError):
            self.tally["taken", "failed"] += 1  # the letters come again, and are known by their ids
        self.look_for_mail()

    async def _deliver(self, conversation: ServerConversation) -> None:
        try:
            await self.mailroom.deliver(conversation)
        except HubError:
            self.tally["mail", "failed"] += 1  # `tick` tries again

    def _refuse(self, conversation: ServerConversation, request: int, error: PgpeerError) -> None:
        self.tally["refused", error.code] += 1
        conversation.refuse(request, error)


def _unsettled(code: str) -> HubError:
    sentence = {
        "target_overloaded": "Too many signals wait for that peer.",
        "timeout": "The hub did not get it done in time.",
    }.get(code, "The hub cannot pass this on now.")
    return HubError(
        sentence, remedy="Try again in a few seconds.", code=code, phase="signalling", retryable=True
    )
