"""The state of a hub in a database of its own, which runs as long as the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pgpeer.embedded import Cluster
from pgpeer.hub.postgres import PostgresStore
from pgpeer.hub.store import Notice
from pgpeer.signaling.limits import HubLimits


class EmbeddedStore(PostgresStore):
    """A `PostgresStore` on an embedded server that nobody else uses."""

    def __init__(self, cluster: Cluster, limits: HubLimits) -> None:
        """Prepare; nothing is started yet.

        Args:
            cluster: the server; not running.
            limits: how much is kept.
        """
        super().__init__("", limits)
        self._cluster = cluster

    async def open(self, url: str, hear: Callable[[Notice], None], lost: Callable[[], None]) -> None:
        """Start the server, then begin as `PostgresStore` does.

        Raises:
            EmbeddedError: the server does not start.
        """
        await asyncio.to_thread(self._cluster.start)
        self._dsn = self._cluster.dsn()
        await super().open(url, hear, lost)

    async def close(self) -> None:
        """End, and stop the server. Twice does nothing."""
        await super().close()
        await asyncio.to_thread(self._cluster.stop)
