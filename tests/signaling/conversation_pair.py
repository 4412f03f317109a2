from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.client import ClientConversation, ClientEvent
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.messages import FEATURES, Hello
from pgpeer.signaling.server import PeerAuthenticated, ServerConversation, ServerEvent

ALICE = PrivateKey.from_seed(b"a" * 32)
BOB = PrivateKey.from_seed(b"b" * 32)
CAROL = PrivateKey.from_seed(b"c" * 32)
HELLO = Hello("hub-1", b"n" * 32, FEATURES)
URL = "ws://hub.example:8765/path"


class Pair:
    """A client and a hub conversation wired in memory."""

    def __init__(
        self,
        limits: HubLimits | None = None,
        url: str = URL,
        authorities: tuple[str, ...] = ("hub.example:8765",),
        welcomed: bool = True,
    ) -> None:
        self.limits = limits or HubLimits()
        self.now = 1000.0
        self.client = ClientConversation(ALICE, url, "alice", self.limits, self.now, features=FEATURES)
        self.server = ServerConversation(HELLO, frozenset(authorities), self.limits, self.now)
        self.client_events: list[ClientEvent] = []
        self.server_events: list[ServerEvent] = []
        if welcomed:
            self.exchange()
            self.server.welcome()
            self.exchange()
            assert self.server_events == [PeerAuthenticated(ALICE.peer_id, "alice")]
            self.client_events.clear()
            self.server_events.clear()

    def exchange(self) -> None:
        """Carry frames both ways until neither side has one."""
        moved = True
        while moved:
            moved = False
            while (frame := self.server.next_frame()) is not None:
                self.client_events += self.client.receive(frame, self.now)
                moved = True
            while (frame := self.client.next_frame()) is not None:
                self.server_events += self.server.receive(frame, self.now)
                moved = True

    def wait(self, seconds: float) -> None:
        """Let time pass; neither side hears of the other meanwhile."""
        self.now += seconds
        self.client_events += self.client.tick(self.now)
        self.server.tick(self.now)


def closing_code(pair: Pair) -> str:
    pair.exchange()
    assert pair.server.is_closed
    assert pair.server.closed_because is not None
    return pair.server.closed_because.code
