"""Hubs: whether they answer and let this database in, what they offer, how late, and by which clock."""

from __future__ import annotations

import asyncio
import http.client
import time
import urllib.parse
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from pgpeer.cli.checks.clocks import clock_finding
from pgpeer.cli.checks.finding import Finding, failed, well
from pgpeer.cli.checks.thread import in_thread, reason, resolution_failure
from pgpeer.errors import ConfigError, HubError
from pgpeer.identity.key import PrivateKey
from pgpeer.signaling.authentication import require_hub_url
from pgpeer.signaling.messages import CIRCUITS, FEATURES, TURN
from pgpeer.transport.hub_link import HubClient, TurnCredentials

HUB_SECONDS: Final = 4.0
_REMEDY: Final = (
    "Start it (pgpeer hub), or correct its row in peer.hub. Links that are open go on without it; the worker "
    "keeps trying."
)
_WORDS: Final = {CIRCUITS: "relay circuits", TURN: "TURN"}


@dataclass(frozen=True, slots=True)
class HubReport:
    """What a hub said.

    Attributes:
        url: its URL.
        findings: for people.
        is_reachable: whether it let us in.
        relays: whether it offers circuits.
        turn: credentials for its TURN servers; None when it has none.
    """

    url: str
    findings: tuple[Finding, ...]
    is_reachable: bool = False
    relays: bool = False
    turn: TurnCredentials | None = None


@dataclass(frozen=True, slots=True)
class _Health:
    """The answer to GET /healthz: `seconds` until its first byte, `skew` how far its clock is ahead."""

    status: int
    seconds: float
    skew: float | None


async def check_hub(url: str) -> HubReport:
    """Signs in at a hub with a key of its own, made for this once, so that the worker's connection stays."""
    try:
        parts = urllib.parse.urlsplit(require_hub_url(url))
    except ConfigError as error:
        return HubReport(url, (failed("hub", error),))
    host = str(parts.hostname)
    unresolved = await resolution_failure(host, HUB_SECONDS)
    if unresolved is not None:
        return HubReport(url, (_unreachable(url, unresolved),))
    health, signed_in = await asyncio.gather(_ask_health(parts), _sign_in(url))
    if isinstance(signed_in, HubError):
        return HubReport(url, (_refused(url, signed_in),))
    seconds, features, turn, turn_error = signed_in
    offers = ", ".join(_WORDS.get(one, one) for one in FEATURES if one in features) or "signals only"
    found = [well("hub", f"The hub {url} answers; it offers {offers}.", seconds)]
    if turn_error is not None:
        found.append(failed("hub", turn_error))
    if health is not None and health.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        found.append(
            Finding(
                "hub",
                "warn",
                "hub_without_state",
                f"The hub {url} has lost its database: it takes no registrations and no letters.",
                "Whoever runs the hub must bring its database back. Links go on.",
            )
        )
    if health is not None:
        what = f"The first byte of the hub {url} came after {health.seconds * 1000:.1f} ms"
        ready = f"{what}; a peer was signed in after {seconds * 1000:.1f} ms."
        found.append(well("first_byte", ready, health.seconds))
        if health.skew is not None:
            found.append(clock_finding(f"the hub {url}", health.skew))
    return HubReport(url, tuple(found), is_reachable=True, relays=CIRCUITS in features, turn=turn)


async def _sign_in(
    url: str,
) -> tuple[float, frozenset[str], TurnCredentials | None, HubError | None] | HubError:
    """Seconds until we were let in, what the hub offers, and credentials for its TURN servers."""
    loop = asyncio.get_running_loop()
    client = HubClient(url, PrivateKey.generate(), "pgpeer doctor")
    began = loop.time()
    try:
        async with asyncio.timeout(HUB_SECONDS):
            await client.connect()
            seconds = loop.time() - began
            turn, turn_error = None, None
            if TURN in client.features:
                try:
                    turn = await client.turn_credentials()
                except HubError as error:
                    turn_error = error
            return seconds, client.features, turn, turn_error
    except HubError as error:
        return error
    except TimeoutError:
        return HubError(f"no answer within {HUB_SECONDS:g} s", code="timeout")
    finally:
        await client.close()


async def _ask_health(parts: urllib.parse.SplitResult) -> _Health | None:
    """GET /healthz, as the worker reaches the hub: through no proxy. None: no answer of HTTP."""
    secure = parts.scheme == "wss"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection

    def ask() -> _Health:
        connection = kind(str(parts.hostname), parts.port, timeout=HUB_SECONDS)
        try:
            began, before = time.monotonic(), time.time()  # noqa: TID251 - clocks are what is compared
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            seconds, after = time.monotonic() - began, time.time()  # noqa: TID251
            skew = _skew(answer.headers.get("Date"), before, after)
            return _Health(answer.status, seconds, skew)
        finally:
            connection.close()

    try:
        return await in_thread(ask, HUB_SECONDS)
    except (OSError, TimeoutError, http.client.HTTPException):
        return None  # signing in says what is wrong


def _skew(date: str | None, before: float, after: float) -> float | None:
    """By how many seconds a clock is ahead that said `date`, which has no fractions, between two moments."""
    try:
        said = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    assert isinstance(said, datetime)
    seconds = said.timestamp()
    return max(0.0, seconds - after) or min(0.0, seconds + 1 - before)


def _refused(url: str, error: HubError) -> Finding:
    if error.code == "identity_mismatch":
        remedy = "Its proxy hides this name: whoever runs the hub must give it with --public-name."
        return Finding("hub", "fail", error.code, f"The hub {url} refuses: {error}", remedy)
    if error.phase == "hub_auth" and error.code != "timeout":
        return Finding("hub", "fail", error.code, f"The hub {url} refuses: {error}", error.remedy or _REMEDY)
    cause = error.__cause__
    return _unreachable(url, reason(cause) if isinstance(cause, OSError) else str(error))


def _unreachable(url: str, why: str) -> Finding:
    detail = f"The hub {url} does not answer: {why.rstrip('.')}."
    return Finding("hub", "fail", "hub_unreachable", detail, _REMEDY)
