"""The hub, peers and bundles of the system tests."""

from __future__ import annotations

from system.conftest import atlas, hub, make_peer

__all__ = ["atlas", "hub", "make_peer"]
