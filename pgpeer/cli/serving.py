"""Running a server in the foreground until somebody asks it to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

WithParent = Annotated[
    bool,
    typer.Option("--with-parent", hidden=True, help="Stop when standard input ends: its parent is gone."),
]


def run_until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]], *, with_parent: bool) -> None:
    """Runs `serve(stop)` on an event loop; SIGTERM and SIGINT set `stop`, upon which it shall return."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_supervise(serve, with_parent=with_parent))


async def _supervise(serve: Callable[[asyncio.Event], Awaitable[None]], *, with_parent: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watcher = asyncio.create_task(_watch_parent(stop)) if with_parent else None
    try:
        await serve(stop)
    finally:
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])


async def _watch_parent(stop: asyncio.Event) -> None:
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):  # nobody holds the other end
        return
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(1024):
            pass
        stop.set()
    finally:
        transport.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where it is installed: several times faster than Python's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
