"""Blocking calls that may take longer than anybody waits for them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result], seconds: float) -> Result:
    """Runs a blocking call in a thread of its own and gives its result.

    The thread is a daemon: unlike one of the loop's executor it keeps neither the loop nor the process from
    ending, however long a resolver or a dead route holds it.

    Raises:
        TimeoutError: it takes longer than `seconds`; it goes on alone and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]
        else:
            outcome.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - it is raised again where the call is awaited
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    async with asyncio.timeout(seconds):
        return await outcome


def reason(error: OSError) -> str:
    """What the system says went wrong, without Python's words around it."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


async def resolution_failure(host: str, seconds: float) -> str | None:
    """Why a host name has no address; None when it has one, and in all likelihood quickly from now on."""
    try:
        await in_thread(lambda: socket.getaddrinfo(host, None), seconds)
    except TimeoutError:
        return f"the name {host} is not resolved within {seconds:g} s"
    except OSError as error:
        return f"the name {host} has no address ({reason(error)})"
    except UnicodeError:
        return f"{host} is no host name"
    return None
