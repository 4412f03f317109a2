"""Events with listeners."""

from __future__ import annotations

import asyncio

import pytest

from pgpeer.client.emitter import Emitter


async def test_listeners_are_called_in_order_and_coroutines_are_awaited() -> None:
    heard: list[str] = []
    emitter = Emitter("data")

    @emitter.on("data")
    async def slow(data: str) -> None:
        await asyncio.sleep(0.01)
        heard.append(f"slow {data}")

    emitter.on("data", lambda data: heard.append(f"quick {data}"))
    await emitter.emit("data", "x")
    assert heard == ["slow x", "quick x"]


async def test_a_listener_can_be_for_once_and_can_be_taken_off() -> None:
    heard: list[str] = []
    emitter = Emitter("data")
    emitter.once("data", heard.append)
    listener = emitter.on("data", lambda data: heard.append(data.upper()))
    await emitter.emit("data", "a")
    await emitter.emit("data", "b")
    emitter.off("data", listener)
    emitter.off("data", listener)
    await emitter.emit("data", "c")
    assert heard == ["a", "A", "B"]
    assert not emitter.has("data")


async def test_a_listener_that_fails_is_told_and_harms_no_other() -> None:
    heard: list[object] = []
    emitter = Emitter("data")
    emitter.on("data", lambda data: 1 / 0)
    emitter.on("data", heard.append)
    emitter.on("error", heard.append)
    await emitter.emit("data", "x")
    assert isinstance(heard[0], ZeroDivisionError)
    assert heard[1] == "x"


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ValueError, match="only data, error"):
        Emitter("data").on("message", print)
