"""What happens to application connections, as the operations that the database stores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pgpeer.channel import events
from pgpeer.channel.limits import Timing
from pgpeer.store.channels import Operation, Settings

HINTS: Final = {
    "refused_policy": "The other database decides by its peer.config.accept; share a bundle with it.",
    "timeout": "Is the worker of the other database running, and does it reach the same hub?",
    "target_overloaded": "The program on the other side does not take its messages out of peer.message.",
    "rate_limited": "End connections that are not needed: SELECT peer.disconnect(…).",
}

REFUSALS: Final = {
    "refused_policy": "This database takes connections of invited peers only.",
    "refused_blocked": "This database takes no connections of this peer.",
    "rate_limited": "More than 120 connections were opened within a minute.",
    "replay": "A connection of this id was there before.",
}


def timing_of(settings: Settings) -> Timing:
    """Give the time-outs that peer.config asks for."""
    return Timing(
        slow=settings.slow,
        connect=max(settings.connect, settings.slow),
        answer=settings.fail,
        link=2 * settings.fail,
        stall_slow=min(settings.fail, settings.stall),
        stall=settings.stall,
    )


def operations_of(peer_id: str, happened: Iterable[events.Event]) -> list[Operation]:
    """Give what is to be stored, in order."""
    operations: list[Operation] = []
    for event in happened:
        _add(operations, peer_id, event)
    return operations


def _add(operations: list[Operation], peer_id: str, event: events.Event) -> None:
    """Write an event as an operation; messages that follow each other become one."""
    common = {"connection": str(event.connection_id), "peer_id": peer_id}
    match event:
        case events.MessageReceived(_, number, data, chain):
            last = operations[-1] if operations else None
            size = len(data.encode("utf-8"))
            message = {"number": number, "data": data}
            if last is None or last["op"] != "messages" or last["connection"] != common["connection"]:
                last = common | {"op": "messages", "messages": [], "bytes": 0}
                operations.append(last)
            last["messages"].append(message)
            last["bytes"] += size
            last |= {"number": number, "chain": chain.hex()}
        case events.MessagesAcknowledged(_, number, chain):
            operations.append(common | {"op": "acknowledged", "number": number, "chain": chain.hex()})
        case events.ConnectionOpened():
            operations.append(common | {"op": "opened"})
        case events.ConnectionSlow(_, phase, detail):
            operations.append(common | {"op": "slow", "phase": phase, "detail": detail})
        case events.ConnectionRecovered(_, phase):
            operations.append(common | {"op": "recovered", "phase": phase})
        case events.ConnectionClosing():
            operations.append(common | {"op": "closing"})
        case events.ConnectionClosed(_, reason, code, phase, retryable, detail):
            hint = HINTS.get(code, "") if reason == "connection-error" else ""
            operations.append(
                common
                | {"op": "closed", "reason": reason, "code": code, "phase": phase, "retryable": retryable}
                | {"detail": detail, "hint": hint}
            )
