"""Peers as in the system tests."""

from system.conftest import hub, make_peer

__all__ = ["hub", "make_peer"]
