"""Stub."""


def run() -> None:
    """Demo."""
