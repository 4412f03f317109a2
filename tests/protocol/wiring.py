"""Two sessions wired in memory, with a clock in the test's hand."""

from dataclasses import dataclass, field
from uuid import UUID

from pgpeer.commit.vector import VectorEntry
from pgpeer.errors import RemoteProtocolError
from pgpeer.identity.key import PrivateKey
from pgpeer.protocol import events
from pgpeer.protocol.session import Session

OFFERER_KEY = PrivateKey.from_seed(b"o" * 32)
ANSWERER_KEY = PrivateKey.from_seed(b"a" * 32)
OFFERER_FINGERPRINT = b"\x01" * 32
ANSWERER_FINGERPRINT = b"\x02" * 32
BUNDLE = UUID(int=7)
DIGEST = b"\x0d" * 32
SIGNATURE = b"\x05" * 64


def offerer(**changes: object) -> Session:
    arguments: dict[str, object] = {
        "key": OFFERER_KEY,
        "role": "offerer",
        "local_fingerprint": OFFERER_FINGERPRINT,
        "remote_fingerprint": ANSWERER_FINGERPRINT,
        "nonce": b"\x03" * 32,
        "expected_peer_id": ANSWERER_KEY.peer_id,
        "label": "ship",
        "now": 0.0,
    }
    return Session(**(arguments | changes))  # type: ignore[arg-type]


def answerer(**changes: object) -> Session:
    arguments: dict[str, object] = {
        "key": ANSWERER_KEY,
        "role": "answerer",
        "local_fingerprint": ANSWERER_FINGERPRINT,
        "remote_fingerprint": OFFERER_FINGERPRINT,
        "nonce": b"\x04" * 32,
        "expected_peer_id": None,
        "label": "harbour",
        "now": 0.0,
    }
    return Session(**(arguments | changes))  # type: ignore[arg-type]


@dataclass
class Wire:
    """Carries every frame at once; keeps what was carried."""

    offerer: Session = field(default_factory=offerer)
    answerer: Session = field(default_factory=answerer)
    now: float = 0.0
    carried: dict[str, list[bytes]] = field(default_factory=lambda: {"offerer": [], "answerer": []})

    def step(self) -> bool:
        """Carry one frame each way, and tell whether there was any."""
        moved = False
        for name, sender, receiver in (
            ("offerer", self.offerer, self.answerer),
            ("answerer", self.answerer, self.offerer),
        ):
            frame = sender.next_frame()
            if frame is not None:
                moved = True
                self.carried[name].append(frame)
                try:
                    receiver.receive_frame(frame, self.now)
                except RemoteProtocolError:
                    pass  # it is told by the events
        return moved

    def run(self) -> "Wire":
        while self.step():
            pass
        return self


def established() -> Wire:
    """Two sessions that know each other, with empty event lists."""
    wire = Wire().run()
    assert wire.offerer.events() == [events.Authenticated(ANSWERER_KEY.peer_id, "harbour")]
    assert wire.answerer.events() == [events.Authenticated(OFFERER_KEY.peer_id, "ship")]
    return wire


def entry(number: int) -> VectorEntry:
    return VectorEntry(number.to_bytes(32, "big"), 1, number, bytes(reversed(number.to_bytes(32, "big"))))
