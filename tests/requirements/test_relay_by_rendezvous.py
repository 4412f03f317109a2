"""The steps by which a peer comes into a collaboration (row E8): a relay is found by rendezvous, connected to, and
registered with as the place where this peer can be reached. With two real hubs that know nothing of each other."""

from __future__ import annotations

import asyncio
import json
import time

from adversary.companions import Companion

from pgpeer.hub.server import Hub
from pgpeer.signaling.record import Registration, rendezvous_name
from pgpeer.transport.hub_link import HubClient

SPACE = rendezvous_name("bundle", b"a secret that members share")


def listing(peer: Companion) -> Registration:
    """Says, signed by the peer, at which relay it is."""
    expires = int(time.time()) + 600
    return Registration(peer.peer_id, SPACE, 1, expires, json.dumps({"relay": peer.url}))


async def test_e8_a_relay_is_found_connected_to_and_registered_with() -> None:
    trace: list[tuple[str, ...]] = []
    async with (
        asyncio.timeout(30),
        Hub() as relay,
        Hub() as meeting_place,
        Companion(b"b", relay.url) as bob,
    ):
        at_meeting = HubClient(meeting_place.url, bob.key, "bob")
        await at_meeting.connect()
        await at_meeting.register(listing(bob), 600)

        # ann knows the meeting place and the collaboration, and nobody in it
        ann_key = Companion(b"a", relay.url).key
        ann_at_meeting = HubClient(meeting_place.url, ann_key, "ann")
        await ann_at_meeting.connect()
        (found,) = (await ann_at_meeting.discover(SPACE)).registrations
        url = json.loads(found.body)["relay"]
        trace.append(("discovered", found.peer_id, url))
        ann = await Companion(b"a", url).__aenter__()
        trace.append(("connected", ann.client.url))
        await ann_at_meeting.register(listing(ann), 600)
        listed = {
            one.peer_id: json.loads(one.body)["relay"]
            for one in (await at_meeting.discover(SPACE)).registrations
        }
        trace.append(("registered", ann.peer_id, listed[ann.peer_id]))
        assert trace == [
            ("discovered", bob.peer_id, relay.url),
            ("connected", relay.url),
            ("registered", ann.peer_id, relay.url),
        ]
        # and by that address bob, who was there first, reaches ann
        link = await bob.reach.connect(ann.peer_id)
        await link.send(b"welcome")
        assert await (await ann.links.get()).receive() == b"welcome"
        await at_meeting.close()
        await ann_at_meeting.close()
        await ann.__aexit__()
