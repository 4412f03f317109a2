"""What a hub answers over plain HTTP: its health and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from pgpeer.hub.desk import Desk
from pgpeer.hub.store import HubStore


class Figures(Collector):
    """The figures of one hub process, read when somebody asks."""

    def __init__(self, desk: Desk, store: HubStore) -> None:
        self._desk = desk
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Give all figures."""
        board, relay = self._desk.switchboard, self._desk.relay
        for name, meaning, value in (
            ("peers_online", "Peers connected to this process.", board.online_count),
            ("peers_elsewhere", "Peers connected to other processes of this hub.", board.elsewhere_count),
            ("circuits", "Circuits open or offered.", relay.count),
            ("relay_waiting_bytes", "Bytes waiting in circuits.", relay.waiting_bytes),
            ("store_reachable", "Whether the hub's state can be reached.", int(self._store.reachable)),
            (
                "store_durable",
                "Whether its state outlives the process.",
                int(self._store.durable),
            ),
        ):
            yield GaugeMetricFamily(f"pgpeer_hub_{name}", meaning, value)
        yield CounterMetricFamily("pgpeer_hub_relayed_bytes", "Bytes relayed.", relay.relayed_bytes)
        yield CounterMetricFamily("pgpeer_hub_circuits_opened", "Circuits opened.", relay.opened_count)
        events = CounterMetricFamily(
            "pgpeer_hub_events", "What clients asked for, and how it went.", labels=("what", "how")
        )
        for (what, how), count in sorted(self._desk.tally.items()):
            events.add_metric((what, how), count)
        yield events


class Pages:
    """Answers `GET /healthz` and `GET /metrics`; everything else is a WebSocket's beginning."""

    def __init__(self, desk: Desk, store: HubStore) -> None:
        self._store = store
        self._registry = CollectorRegistry()
        self._registry.register(Figures(desk, store))

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer a request; None: go on with the WebSocket handshake."""
        if request.path == "/healthz":
            if self._store.reachable:
                return socket.respond(HTTPStatus.OK, "ok\n")
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "the database cannot be reached\n")
        if request.path == "/metrics":
            response = socket.respond(HTTPStatus.OK, generate_latest(self._registry).decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = CONTENT_TYPE_LATEST
            return response
        return None
