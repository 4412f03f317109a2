"""The checks of the network, all at the same time and each with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from pgpeer.cli.checks.finding import Finding, unchecked, well
from pgpeer.cli.checks.hubs import HubReport, check_hub
from pgpeer.cli.checks.nat import check_nat, stun_urls
from pgpeer.cli.checks.paths import NOTHING_KNOWN, Ways, known_ways
from pgpeer.cli.checks.turn import TurnServer, check_turn
from pgpeer.cli.database import Database
from pgpeer.cli.output import Row

OUTSIDE_SECONDS: Final = 15.0
"""More than the limits of the single checks together allow: if it is reached, one of them is broken."""

_HUBS: Final = "SELECT h.url FROM peer.hub AS h WHERE h.enabled ORDER BY h.id"
_SERVERS: Final = """
    SELECT s.url, s.username, s.credential FROM peer.stun_server AS s WHERE s.enabled ORDER BY s.id
"""


def outside_checks(database: Database) -> tuple[list[Finding], Ways]:
    """Asks every hub, STUN and TURN server; takes about ten seconds at most, and two or three as a rule."""
    hubs = [str(row["url"]) for row in database.rows(_HUBS)]
    servers = database.rows(_SERVERS)
    return asyncio.run(_all(hubs, servers))


async def _all(hubs: Sequence[str], rows: Sequence[Row]) -> tuple[list[Finding], Ways]:
    own = [
        TurnServer(row["url"], row["username"], row["credential"], "peer.stun_server")
        for row in rows
        if row["url"].startswith("turn")
    ]
    try:
        async with asyncio.timeout(OUTSIDE_SECONDS):
            own_turn = asyncio.create_task(_turn(own))
            reports = await asyncio.gather(*(check_hub(url) for url in hubs))
            offered = _offered(reports)
            urls = [*(row["url"] for row in rows), *_hub_urls(reports)]
            others, (nat, mapping), mine = await asyncio.gather(
                _turn(offered), check_nat(stun_urls(urls)), own_turn
            )
    except TimeoutError:
        late = f"no end within {OUTSIDE_SECONDS:g} s."
        found = [unchecked("network", late, "Please report this as a fault of pgpeer.")]
        return found, NOTHING_KNOWN
    findings = [finding for report in reports for finding in report.findings]
    if not hubs:
        detail = "No hub is set: peers cannot find this one."
        findings.append(Finding("hub", "warn", "no_hub", detail, "pgpeer init --hub URL"))
    findings += [*nat, *mine, *others]
    if not own and not offered:
        findings.append(
            well("turn", "No TURN server is set and no hub gives one; the hub's relay takes its place.")
        )
    ways = known_ways(
        [*mine, *others],
        mapping,
        has_hub=any(report.is_reachable for report in reports),
        has_relay=any(report.relays for report in reports),
    )
    return findings, ways


async def _turn(servers: Sequence[TurnServer]) -> list[Finding]:
    return list(await asyncio.gather(*(check_turn(server) for server in servers)))


def _offered(reports: Sequence[HubReport]) -> list[TurnServer]:
    return [
        TurnServer(url, report.turn.username, report.turn.credential, "the hub")
        for report in reports
        if report.turn is not None
        for url in report.turn.urls
        if url.startswith("turn")
    ]


def _hub_urls(reports: Sequence[HubReport]) -> list[str]:
    return [url for report in reports if report.turn is not None for url in report.turn.urls]
