"""Texts of the other side that people will read: nothing in them moves a cursor or breaks a line."""

from __future__ import annotations


def printable(text: str) -> str:
    """Give a text with every character that is not to be printed, NUL among them, replaced by U+FFFD."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)
