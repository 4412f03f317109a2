"""A hub that pushes strangers, forged, old and unreadable registrations to a whole worker: nothing changes (row E7)."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import UUID

import psutil
from adversary.hostile_hub import HostileHub, Message, Plot, Visitor
from system.conftest import atlas, hub, make_peer
from system.processes import Peer

from pgpeer.identity.key import PrivateKey
from pgpeer.identity.notice import sign_peer_record
from pgpeer.signaling.limits import HubLimits
from pgpeer.signaling.membership import Membership, Space
from pgpeer.signaling.record import Registration, sign_registration
from pgpeer.transport.hub_link import PAGES_LIMIT

__all__ = ["atlas", "hub", "make_peer"]

Make = Callable[..., Peer]


class Pushing(Plot):
    """Remembers who follows what."""

    def __init__(self) -> None:
        self.followers: list[tuple[Visitor, str]] = []

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "follow":
            self.followers += [(visitor, namespace) for namespace in message["ns"]]
        return [message]


def listing(
    key: PrivateKey,
    space: Space,
    seq: int,
    address: str,
    said: PrivateKey | None = None,
    seconds: int = 600,
    said_at: int = 0,
) -> bytes:
    """The registration of a peer that says, in its own name or another one's, that it is there."""
    record = sign_peer_record(said or key, said_at or seq, "moved", [address])
    body = space.seal(key.peer_id, Membership("", record))
    return sign_registration(
        key, Registration(key.peer_id, space.name, seq, int(time.time()) + seconds, body)
    )


def push(joined: list[bytes], left: list[str], namespace: str, *, missed: bool = False) -> Message:
    records = [base64.b64encode(one).decode() for one in joined]
    return {"t": "changes", "ns": namespace, "joined": records, "left": left, "missed": missed}


async def test_what_a_hostile_hub_pushes_of_members_changes_nothing_but_what_a_member_has_signed(
    atlas: Make, make_peer: Make
) -> None:
    ann, bob, cid = await asyncio.to_thread(members, atlas, make_peer)
    space = Space(UUID(str(ann.value("SELECT bundle_id FROM peer_internal.bundle"))).bytes)
    plot = Pushing()
    async with asyncio.timeout(120), HostileHub(plot) as hostile:
        await asyncio.to_thread(ann.run, "UPDATE peer.hub SET url = %s", hostile.url)
        while not plot.followers:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
        visitor, namespace = plot.followers[0]
        assert namespace == space.name
        before = await asyncio.to_thread(picture, ann)
        assert before["addresses"] == []

        async def tell(*joined: bytes, left: tuple[str, ...] = ()) -> None:
            await visitor.tell(push(list(joined), list(left), namespace))

        now = int(time.time() * 1000)
        bobs, stranger = bob.database.key, PrivateKey.generate()
        true = listing(bobs, space, now + 100, "tls://127.0.0.1:9")
        body = b"no" * 40
        await tell(
            listing(stranger, space, now, "tls://127.0.0.1:1"),
            true[:64] + true[64:].replace(str(now + 100).encode(), str(now + 200).encode()),
            true,
            listing(bobs, space, now + 50, "tls://127.0.0.1:2"),  # from before, kept by the hub
            listing(bobs, space, now + 300, "tls://127.0.0.1:3", seconds=-600),
            listing(bobs, Space(bytes(16)), now + 400, "tls://127.0.0.1:4"),  # of another bundle
            listing(bobs, space, now + 500, "tls://127.0.0.1:5", said=cid.database.key),
            sign_registration(
                bobs,
                Registration(
                    bobs.peer_id,
                    space.name,
                    now + 600,
                    int(time.time()) + 600,
                    base64.b64encode(body).decode(),
                ),
            ),
            b"x" * 100,
        )
        # bob alone has been believed, in what it signed for now
        await asyncio.to_thread(
            ann.wait_until, "SELECT EXISTS (SELECT FROM peer.address WHERE source = 'record')"
        )
        after = await asyncio.to_thread(picture, ann)
        assert after == {**before, "addresses": [(bob.peer_id, "tls://127.0.0.1:9", bob.peer_id)]}
        assert ann.worker is not None
        await asyncio.to_thread(ann.worker.wait_for_log, "registrations not taken")
        counts = told(ann)
        assert counts["not_a_member"] == 1
        assert counts["not_believed"] == 5
        assert counts["identity_mismatch"] == 1
        assert counts["bad_message"] == 1

        # a flood of all of it, and of coming and going
        process = psutil.Process(ann.worker.pid)
        rss = process.memory_info().rss
        cpu = sum(process.cpu_times()[:2])
        began, pushed = time.monotonic(), 0
        for number in count():
            keys = [PrivateKey.from_seed((number * 8 + n).to_bytes(32, "big")) for n in range(8)]
            strangers = [listing(one, space, 1, "tls://127.0.0.1:1") for one in keys]
            again = listing(bobs, space, now + 1000 + number, "tls://127.0.0.1:9", said_at=now + 100)
            await tell(*strangers, again, left=(bob.peer_id, cid.peer_id, stranger.peer_id))
            await visitor.tell(push([], [], namespace, missed=True))
            pushed += 9
            if time.monotonic() - began > 8:
                break
        used = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
        print(
            f"{pushed} registrations pushed, {used:.2f} cores, {(process.memory_info().rss - rss) >> 20} MiB"
        )
        assert process.memory_info().rss - rss < 48 * 2**20
        assert await asyncio.to_thread(picture, ann) == after
        lines = ann.log.read_text().splitlines()
        assert sum('"registrations not taken"' in line for line in lines) <= 3, "told once a minute"
        assert sum('"members listed"' in line for line in lines) <= 2 * (time.monotonic() - began) + 10
        # it works on, and is still connected there
        assert ann.worker.process.poll() is None
        assert visitor in hostile.visitors
    await asyncio.to_thread(seal_still_works, ann)


class Endless(Plot):
    """Tells without end who is listed."""

    def __init__(self) -> None:
        self.cookies: dict[int, int] = {}
        self.pages = 0

    def asked(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "discover":
            self.cookies[message["id"]] = message["cookie"]
        return [message]

    def told(self, visitor: Visitor, message: Message) -> list[Message]:
        if message["t"] == "peers":
            self.pages += 1
            return [{**message, "more": True, "cookie": self.cookies.pop(message["id"]) + 1}]
        return [message]


async def test_a_hub_that_tells_without_end_who_is_listed_is_given_up_and_the_worker_is_listed_all_the_same(
    atlas: Make,
) -> None:
    ann = await asyncio.to_thread(atlas)
    plot = Endless()
    limits = HubLimits(requests_burst=10**6, address_requests_burst=10**6, messages_burst=10**6)
    async with asyncio.timeout(60), HostileHub(plot, limits=limits) as hostile:
        await asyncio.to_thread(ann.run, "UPDATE peer.hub SET url = %s", hostile.url)
        assert ann.worker is not None
        await asyncio.to_thread(ann.worker.wait_for_log, '"not registered"')
        lines = [json.loads(line) for line in ann.log.read_text().splitlines()]
        assert [one["url"] for one in lines if one["event"] == "registered"][-1] == hostile.url
        # too many pages, or too slow ones
        codes = {one["code"] for one in lines if one["event"] == "not registered"}
        assert codes in ({"too_large"}, {"timeout"}, {"too_large", "timeout"})
        assert 1 < plot.pages <= (PAGES_LIMIT + 1) * len(codes)
        print(f"{plot.pages} pages")
        await asyncio.to_thread(seal_still_works, ann)


def members(atlas: Make, make_peer: Make) -> tuple[Peer, Peer, Peer]:
    """Three members, of whom only the first goes on running."""
    ann, bob, cid = atlas(), make_peer("bob"), make_peer("cid")
    for peer in (bob, cid):
        peer.start()
        peer.join(ann)
        peer.end()
    return ann, bob, cid


def picture(peer: Peer) -> dict[str, Any]:
    """What a database knows of peers."""
    return {
        "members": peer.run("SELECT peer_id, role, state FROM peer.member ORDER BY 1"),
        "authors": peer.run("SELECT peer_id FROM peer_internal.author ORDER BY 1"),
        "addresses": peer.run("SELECT peer_id, address, told_by FROM peer.address ORDER BY 1, 2"),
        "friends": peer.run("SELECT peer_id FROM peer.friend"),
    }


def told(peer: Peer) -> dict[str, int]:
    line = next(one for one in peer.log.read_text().splitlines() if '"registrations not taken"' in one)
    return json.loads(line)  # type: ignore[no-any-return]


def seal_still_works(peer: Peer) -> None:
    before = peer.value("SELECT count(*) FROM peer.log('atlas')")
    peer.run("UPDATE public.city SET name = 'still here' WHERE id = 1")
    peer.wait_until("SELECT count(*) > %s FROM peer.log('atlas')", before)
