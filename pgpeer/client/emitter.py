"""Events with listeners, as programs know them from other languages."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, overload

import structlog

Listener = Callable[..., Any]
"""A function or coroutine function; what it returns is not used."""


class Emitter:
    """Calls listeners in the order in which they were added; a coroutine is awaited before the next.

    A listener that raises does not keep the others from being called: the error is logged and given to the
    listeners of `error`.

    Args:
        names: the events that there are.
        changed: called when a listener was added.
    """

    def __init__(self, *names: str, changed: Callable[[], None] = lambda: None) -> None:
        self._listeners: dict[str, list[Listener]] = {name: [] for name in (*names, "error")}
        self._changed = changed
        self._log = structlog.get_logger("pgpeer.client")

    @overload
    def on(self, name: str) -> Callable[[Listener], Listener]: ...
    @overload
    def on(self, name: str, listener: Listener) -> Listener: ...
    def on(self, name: str, listener: Listener | None = None) -> Listener | Callable[[Listener], Listener]:
        """Call a listener at every event of a name; also usable as a decorator.

        Raises:
            ValueError: there is no such event.
        """
        if name not in self._listeners:
            raise ValueError(f"There is no event {name!r}, only {', '.join(sorted(self._listeners))}.")
        if listener is None:
            return lambda given: self.on(name, given)
        self._listeners[name].append(listener)
        self._changed()
        return listener

    def once(self, name: str, listener: Listener) -> Listener:
        """Call a listener at the next event of a name only."""

        def call(*arguments: object) -> Any:  # noqa: ANN401 - whatever the listener gives
            self.off(name, call)
            return listener(*arguments)

        return self.on(name, call)

    def off(self, name: str, listener: Listener) -> None:
        """Call a listener no more; harmless when it is not there."""
        if listener in self._listeners.get(name, []):
            self._listeners[name].remove(listener)

    def has(self, name: str) -> bool:
        """Whether an event has listeners."""
        return bool(self._listeners[name])

    async def emit(self, name: str, *arguments: object) -> None:
        """Call the listeners of an event."""
        for listener in list(self._listeners[name]):
            try:
                result = listener(*arguments)
                if inspect.isawaitable(result):
                    await result
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - other people's code; told below
                self._log.error("a listener failed", event_name=name, exc_info=error)
                if name != "error":
                    await self.emit("error", error)
