"""Fixtures of the tests about members."""

from merge.conftest import world

__all__ = ["world"]
