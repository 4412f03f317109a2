"""A long and lossy wire between two devices: every frame is delayed, some are lost."""

from __future__ import annotations

import heapq
import json
import random
import selectors
import socket
import sys
import time

ALL_PROTOCOLS = 3
OUTGOING = 4
QUEUE = 2000
"""Frames under way in both directions; more are lost, as in a router."""


def main() -> None:
    options = json.loads(sys.argv[1])
    chance = random.Random(1)
    ends = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) for _ in range(2)]
    waiting = selectors.DefaultSelector()
    for end, device in zip(ends, options["devices"], strict=True):
        end.bind((device, 0))
        end.setblocking(False)
        waiting.register(end, selectors.EVENT_READ, ends[1 - ends.index(end)])
    flight: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    print(json.dumps({"event": "ready"}), flush=True)
    while True:
        timeout = max(0.0, flight[0][0] - time.monotonic()) if flight else None
        for key, _ in waiting.select(timeout):
            for _ in range(64):
                try:
                    frame, address = key.fileobj.recvfrom(65_536)  # type: ignore[union-attr]
                except BlockingIOError:
                    break
                if address[2] == OUTGOING or chance.random() < options["loss"] or len(flight) >= QUEUE:
                    continue
                number += 1
                heapq.heappush(flight, (time.monotonic() + options["delay"], number, key.data, frame))
        while flight and flight[0][0] <= time.monotonic():
            _, _, end, frame = heapq.heappop(flight)
            end.send(frame)


main()
