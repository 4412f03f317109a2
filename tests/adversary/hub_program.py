"""A hostile hub as a process: HOW SECRET. Prints `ready URL`; tells on stderr what it did, and LEAK if it read the secret."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adversary.companions import Mallory
from adversary.hostile_hub import HostileHub, Message, Plot, Visitor
from pgpeer.errors import PgpeerError
from pgpeer.identity.key import PrivateKey

FLAPS_PER_SECOND = 100


class Telling(Plot):
    """Says on stderr what peers ask for."""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] in ("open", "signal"):
            print(f"asked {message['t']} {visitor.peer_id}", file=sys.stderr, flush=True)
        return [message]


class Swap(Telling):
    """Every circuit leads to Mallory, who opens another one in the caller's name; signals are forged."""

    def __init__(self) -> None:
        self.mallory: Mallory
        self.wanted: deque[tuple[str, str]] = deque()
        self.pretended = ""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        super().asked(visitor, message)
        if message["t"] == "open" and visitor.peer_id != self.mallory.peer_id:
            self.wanted.append((visitor.peer_id, message["to"]))
            return [{**message, "to": self.mallory.peer_id}]
        return [message]

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "circuit" and message["from"] == self.mallory.peer_id:
            return [{**message, "from": self.pretended}]
        if message["t"] == "signal" and "from" in message:
            return [self.mallory.forged_box(message, visitor.peer_id)]
        return [message]

    async def stand_between(self) -> None:
        while True:
            near = await self.mallory.arrival()
            self.pretended, target = self.wanted.popleft()
            try:
                far = await self.mallory.call(target)
            except PgpeerError:
                await near.close()
                continue
            self.mallory.pump(near, far)
            self.mallory.pump(far, near)
            print("stood between", file=sys.stderr, flush=True)


class Drop(Telling):
    """Nothing that peers ask for happens."""

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        super().asked(visitor, message)
        return [] if message["t"] in ("open", "signal", "post") else [message]


class Lie(Telling):
    """Who is here is said to be away, and who is away to be here."""

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] != "presence":
            return [message]
        online = dict.fromkeys(message["offline"], "a lie")
        return [{"t": "presence", "online": online, "offline": list(message["online"])}]


class Repeat(Telling):
    """Signals come twice, circuits carry some frames twice, and old words come again."""

    def __init__(self) -> None:
        self._count = 0

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        return [message, message] if message["t"] == "signal" and "from" in message else [message]

    def carried(self, visitor: Visitor, data: bytes) -> list[bytes]:
        self._count += 1
        return [data, data] if self._count % 40 == 0 else [data]


class Flap(Telling):
    """Peers seem to come and go all the time, and cannot be reached."""

    def __init__(self) -> None:
        self.watched: dict[str, list[str]] = {}

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        super().asked(visitor, message)
        if message["t"] == "watch":
            self.watched[visitor.peer_id] = message["peers"]
        return [] if message["t"] in ("open", "signal") else [message]

    async def flap(self, hostile: HostileHub) -> None:
        is_online = False
        while True:
            await asyncio.sleep(1 / FLAPS_PER_SECOND)
            is_online = not is_online
            for visitor in list(hostile.visitors):
                for peer_id in self.watched.get(visitor.peer_id, []):
                    online = {peer_id: "flapping"} if is_online else {}
                    await visitor.tell(
                        {"t": "presence", "online": online, "offline": [] if is_online else [peer_id]}
                    )


class Crowd(Telling):
    """Circuits of strangers come without end, and lead nowhere."""

    def __init__(self) -> None:
        self._number = 1_000_000

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        super().asked(visitor, message)
        return [message] if message["t"] in ("auth", "ping", "watch") else []

    def carried(self, visitor: Visitor, data: bytes) -> list[bytes]:
        return []

    async def crowd(self, hostile: HostileHub) -> None:
        while True:
            for visitor in list(hostile.visitors):
                for seed in range(40):
                    self._number += 1
                    stranger = PrivateKey.from_seed(bytes([seed + 1]) * 32).peer_id
                    await visitor.tell({"t": "circuit", "circuit": self._number, "from": stranger})
            await asyncio.sleep(1.0)


class Deny(Telling):
    """Whatever is for a peer is refused in its name, as if it did not want it."""

    def __init__(self) -> None:
        self._words: set[asyncio.Task[None]] = set()

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        super().asked(visitor, message)
        if message["t"] not in ("open", "signal"):
            return [message]
        refusal = {"t": "error", "id": message["id"], "code": "refused_blocked", "detail": "Go away."}
        words = asyncio.create_task(visitor.tell({**refusal, "hint": "", "retryable": False}))
        self._words.add(words)
        words.add_done_callback(self._words.discard)
        return []


PLOTS = {"swap": Swap, "drop": Drop, "lie": Lie, "repeat": Repeat, "flap": Flap, "crowd": Crowd, "deny": Deny}


async def main(how: str, secret: str) -> None:
    plot = PLOTS[how]()
    async with HostileHub(plot) as hostile:
        if isinstance(plot, Swap):
            plot.mallory = await Mallory(hostile).__aenter__()
            helper = asyncio.create_task(plot.stand_between())
        elif isinstance(plot, Crowd):
            helper = asyncio.create_task(plot.crowd(hostile))
        elif isinstance(plot, Flap):
            helper = asyncio.create_task(plot.flap(hostile))
        else:
            helper = asyncio.create_task(asyncio.Event().wait())
        print("ready", hostile.url, flush=True)
        while not helper.done():
            await asyncio.sleep(0.5)
            heard = b"".join(plot.mallory.heard) if isinstance(plot, Swap) else b""
            if secret.encode() in hostile.seen or secret.encode() in heard:
                print("LEAK", file=sys.stderr, flush=True)
        helper.result()


asyncio.run(main(*sys.argv[1:]))
