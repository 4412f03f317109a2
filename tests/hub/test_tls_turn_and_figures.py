"""TLS, TURN credentials, health and figures. Rows E11 and E21 (diagnostics), D-rows on STUN."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from meeting import ALICE, BOB, BOTH, Meet, next_of, pipe
from prometheus_client.parser import text_string_to_metric_families

from pgpeer.errors import HubError
from pgpeer.signaling.turn import TurnService
from pgpeer.transport.hub_events import SignalReceived
from pgpeer.transport.hub_link import HubClient


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


async def test_a_hub_with_a_certificate_serves_wss_and_nothing_else(
    meet: Meet, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    meeting = await meet(tls=context)
    assert meeting.hub.url.startswith("wss://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    alice = await meeting.join(ALICE, tls=trusting, takes=BOTH)
    bob = await meeting.join(BOB, tls=trusting, takes=BOTH)
    assert await alice.send_signal(BOB.peer_id, "s", b"x")
    assert (await next_of(bob, SignalReceived)).sender == ALICE.peer_id
    here, there = await pipe(alice, bob, BOB)
    await here.send(b"inside")
    assert await there.receive() == b"inside"
    with pytest.raises(HubError) as caught:
        await HubClient(meeting.hub.url, ALICE, "").connect()
    assert "trusts" in caught.value.remedy
    with pytest.raises(HubError):
        await HubClient(meeting.hub.url.replace("wss:", "ws:"), ALICE, "").connect()


async def test_turn_credentials_are_given_to_each_peer_for_an_hour(meet: Meet) -> None:
    meeting = await meet(turn=TurnService(("turn:turn.example:3478", "stun:turn.example"), b"secret"))
    alice = await meeting.join(ALICE)
    assert "turn" in alice.features
    given = await alice.turn_credentials()
    expiry, _, peer_id = given.username.partition(":")
    assert given.urls == ("turn:turn.example:3478", "stun:turn.example")
    assert peer_id == ALICE.peer_id
    assert abs(int(expiry) - time.time() - 3600) < 10
    assert given.ttl_seconds == 3600
    bob = await meeting.join(BOB)
    assert (await bob.turn_credentials()).credential != given.credential


async def test_a_hub_without_turn_servers_says_so(meet: Meet) -> None:
    alice = await (await meet()).join(ALICE)
    with pytest.raises(HubError) as caught:
        await alice.turn_credentials()
    assert caught.value.code == "refused_policy"
    assert not alice.is_closed


async def test_the_figures_are_those_of_what_happened(meet: Meet) -> None:
    meeting = await meet()
    alice, bob = await meeting.join(ALICE, takes=BOTH), await meeting.join(BOB, takes=BOTH)
    here, there = await pipe(alice, bob, BOB)
    await here.send(b"x" * 1000)
    assert len(await there.receive()) == 1000
    await alice.send_signal(BOB.peer_id, "s", b"x")
    url = meeting.hub.url.replace("ws://", "http://")

    def read(path: str) -> str:
        with urllib.request.urlopen(url + path, timeout=5) as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            return str(response.read().decode())

    families = list(text_string_to_metric_families(await asyncio.to_thread(read, "/metrics")))
    samples = {
        (one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples
    }
    assert samples["pgpeer_hub_peers_online",] == 2
    assert samples["pgpeer_hub_circuits",] == 1
    assert samples["pgpeer_hub_circuits_opened_total",] == 1
    assert samples["pgpeer_hub_relayed_bytes_total",] == 1000
    assert samples["pgpeer_hub_store_reachable",] == 1
    assert samples["pgpeer_hub_store_durable",] == 0
    assert samples["pgpeer_hub_events_total", "delivered", "signal"] == 1
    assert all(family.documentation for family in families)


async def test_a_hub_that_lost_its_database_is_not_healthy(
    meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = await meet()
    monkeypatch.setattr(type(meeting.hub._store), "reachable", False)

    def status() -> int:
        try:
            with urllib.request.urlopen(meeting.hub.url.replace("ws://", "http://") + "/healthz") as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    assert await asyncio.to_thread(status) == 503
