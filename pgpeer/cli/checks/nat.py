"""STUN servers and the NAT in front of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiortc.rtcicetransport import parse_stun_turn_uri

from pgpeer.cli.checks.finding import Finding, well
from pgpeer.cli.checks.thread import reason, resolution_failure
from pgpeer.transport.nat_probe import DEFAULT_PORT, Mapping, NatReport, StunAnswer, probe_nat

STUN_SECONDS: Final = 3.0
_ROW: Final = "Correct its row in peer.stun_server, or remove it."
_LET_UDP_OUT: Final = (
    "Let UDP out to the internet. Until then every link goes through the hub, or over TCP where one side can "
    "reach the other."
)
_TWO_SERVERS: Final = "INSERT INTO peer.stun_server (url) VALUES ('stun:…') with a second server."


def stun_urls(urls: Iterable[str]) -> list[str]:
    """The servers that can be asked by UDP which address they see: every TURN server is a STUN server too."""
    found: dict[str, None] = {}
    for url in urls:
        try:
            parts = parse_stun_turn_uri(url)
        except ValueError:
            if url.startswith("stun:"):
                found[url] = None  # it is named when it is asked
            continue
        if parts["scheme"] == "stun" or (parts["scheme"] == "turn" and parts["transport"] == "udp"):
            port = parts["port"] or DEFAULT_PORT
            found[f"stun:{parts['host']}:{port}"] = None
    return list(found)


async def check_nat(urls: Sequence[str]) -> tuple[list[Finding], Mapping | None]:
    """Asks the servers from one port; gives also the kind of NAT, None when there was nobody to ask."""
    if not urls:
        detail = "No STUN server is set, so the kind of NAT is not known"
        return [well("nat", f"{detail}; beyond a NAT, peers are reached through the hub.")], None
    askable, findings = await _askable(urls)
    if not askable:
        return [*findings, _nat(NatReport("blocked", ()), len(urls))], "blocked"
    try:
        async with asyncio.timeout(STUN_SECONDS):
            report = await probe_nat(askable)
    except (TimeoutError, OSError) as error:
        late = isinstance(error, TimeoutError)
        why = f"no answer within {STUN_SECONDS:g} s" if late else reason(error)
        answers = tuple(StunAnswer(url, None, None, why) for url in askable)
        report = NatReport("blocked", answers)
    findings += [_answer(answer, report.mapping) for answer in report.answers]
    return [*findings, _nat(report, len(urls))], report.mapping


async def _askable(urls: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Sorts out malformed URLs and names without an address, which would hold up the others."""

    async def judge(url: str) -> Finding | None:
        try:
            parts = parse_stun_turn_uri(url)
        except ValueError:
            detail = f"{url!r} is not the URL of a STUN server."
            return Finding("stun", "fail", "stun_url", detail, "Write it as stun:HOST or stun:HOST:PORT.")
        unresolved = await resolution_failure(parts["host"], STUN_SECONDS)
        if unresolved is None:
            return None
        detail = f"The STUN server {url} cannot be asked: {unresolved}."
        return Finding("stun", "fail", "stun_unreachable", detail, _ROW)

    judged = await asyncio.gather(*(judge(url) for url in urls))
    askable = [url for url, found in zip(urls, judged, strict=True) if found is None]
    return askable, [found for found in judged if found is not None]


def _answer(answer: StunAnswer, mapping: Mapping) -> Finding:
    if answer.mapped is None:
        detail = f"The STUN server {answer.url} does not answer: {answer.detail}."
        remedy = _ROW if mapping != "blocked" else f"{_ROW} {_LET_UDP_OUT}"
        return Finding("stun", "fail", "stun_unreachable", detail, remedy)
    host, port = answer.mapped
    return well("stun", f"The STUN server {answer.url} sees this machine as {host}:{port}.", answer.seconds)


def _nat(report: NatReport, asked: int) -> Finding:
    match report.mapping:
        case "none":
            return well("nat", "No NAT: servers see this machine under its own address.")
        case "endpoint_independent":
            return well("nat", "A NAT with one public port for all peers: STUN is enough to connect.")
        case "unknown":
            detail = "A NAT, of which one answer does not tell the kind"
            return Finding("nat", "warn", "nat_unknown", f"{detail}.", _TWO_SERVERS)
        case "symmetric":
            detail = "A symmetric NAT, with another public port for every peer: two such peers need TURN"
            remedy = (
                "Enter a TURN server in peer.stun_server, or let the hub give one. The hub relays meanwhile."
            )
            return Finding("nat", "warn", "nat_symmetric", f"{detail} or a relay.", remedy)
        case "blocked":
            if asked == 1:
                detail = "UDP is blocked, or the one STUN server is down: it did not answer"
            else:
                detail = f"UDP is blocked: none of {asked} STUN servers answered"
            return Finding("nat", "warn", "udp_blocked", f"{detail}.", _LET_UDP_OUT)
