"""Joining a bundle by an invite: the answer of the inviter, and what the joining side does with it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from pgpeer.errors import CommitError, IdentityError, PgpeerError, RemoteProtocolError, StoreError
from pgpeer.identity.peer_id import public_key_from_peer_id
from pgpeer.protocol.events import JoinAccepted, JoinRefused, JoinRequested
from pgpeer.store import commits, state
from pgpeer.store.commits import vector_document, vector_of
from pgpeer.worker.conversation import Conversation
from pgpeer.worker.office import Office
from pgpeer.worker.registry import batches, readable

REFUSALS: Final = {
    "unknown_invite": "The invite is not known to the peer that should have made it.",
    "expired_invite": "The invite has expired.",
    "used_invite": "The invite has been used as often as it may be.",
}
HINT: Final = "Ask for a new invite: SELECT peer.invite(…) at the inviter, then SELECT peer.join(…) here."


WAITING_SECONDS: Final = 5.0
"""After so long people are told that an inviter does not answer."""


class JoinWatch:
    """Tells people about requests to join that wait, and ends those that have expired."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._since: dict[UUID, float] = {}

    async def look(self, now: float, unix_now: float) -> None:
        """Look once; `now` is monotonic."""
        reporter = self._office.reporter
        joins = {join.request_id: join for join in self._office.view.joins}
        for request_id in [one for one in self._since if one not in joins]:
            del self._since[request_id]
            await reporter.solved("join_waiting", str(request_id))
        for request_id, join in joins.items():
            since = self._since.setdefault(request_id, now)
            if join.expires < unix_now:
                desk = self._office.connections.desk
                await state.join_failed(desk, request_id, "expired_invite", REFUSALS["expired_invite"], HINT)
                await self._office.look()
            elif now - since >= WAITING_SECONDS and join.inviter not in self._office.exchanges:
                await reporter.problem(
                    "join_waiting",
                    str(request_id),
                    f"Joining bundle {join.name!r} waits: its inviter {join.inviter} is not reachable yet.",
                    "The worker of the inviter must run and reach the same hub. The request stays open.",
                )


async def answer(office: Office, conversation: Conversation, label: str, event: JoinRequested) -> UUID | None:
    """Take a peer in, or refuse it.

    Returns:
        The bundle that the peer is a member of now; None when it was refused.
    """
    peer_id = conversation.peer_id
    assert peer_id is not None, "a join comes after authentication"
    desk = office.connections.desk
    admission = await state.redeem_invite(
        desk, event.invite_id, event.secret, public_key_from_peer_id(peer_id), label
    )
    bundle_id = admission.bundle_id
    if admission.outcome != "accepted" or bundle_id is None:
        code = admission.outcome if admission.outcome in REFUSALS else "unknown_invite"
        await conversation.refuse_join(event.invite_id, code, REFUSALS[code])
        error = PgpeerError(REFUSALS[code], code="refused_policy", phase="sync")
        await office.reporter.failure("join-refused", error, peer_id=peer_id)
        return None
    await office.registry.catch_up()
    creator, grants = await office.registry.known(bundle_id)
    # the newcomer has joined when it has what is here now, and only what is signed travels
    await office.sealer.finish(bundle_id)
    merged = await commits.vector(desk, bundle_id, "merged")
    await conversation.accept_join(
        event.invite_id,
        {
            "bundle": str(bundle_id),
            "name": admission.name,
            "commit_mode": admission.commit_mode,
            "role": admission.role,
            "label": office.view.label,
            "vector": vector_document(merged),
            "creator": creator,
            # the others follow as to every member
            "grants": [record.hex() for record in next(batches(grants), [])],
        },
    )
    await office.reporter.event(
        "member-joined", peer_id=peer_id, bundle=admission.name, detail=f"{label or peer_id} is a member now."
    )
    return bundle_id


async def ask(office: Office, conversation: Conversation, asked: set[UUID]) -> None:
    """Ask for what this database wants to join and has not asked on this conversation yet."""
    assert conversation.peer_id is not None, "joins are asked for after authentication"
    for join in office.view.joins_at(conversation.peer_id):
        if join.request_id not in asked:
            asked.add(join.request_id)
            await conversation.send_join(join.invite_id, bytes.fromhex(join.secret))


async def accepted(office: Office, conversation: Conversation, event: JoinAccepted) -> UUID | None:
    """The inviter took this database in: make room for the bundle.

    Returns:
        The bundle; None when it cannot be taken, which the user is told.

    Raises:
        RemoteProtocolError: the answer is malformed or to no question.
    """
    assert conversation.peer_id is not None, "an answer comes after authentication"
    asked = [j for j in office.view.joins_at(conversation.peer_id) if j.invite_id == event.invite_id]
    if not asked:
        raise RemoteProtocolError("The other side accepts a join that was not asked for.", phase="sync")
    join = asked[0]
    try:
        if UUID(_text(event.payload, "bundle")) != join.bundle_id:
            raise ValueError("another bundle")
        mode = _text(event.payload, "commit_mode")
        if mode not in ("auto", "manual"):
            raise ValueError("unknown commit mode")
        label = event.payload.get("label")
        goal = vector_of(event.payload["vector"])
        creator = event.payload.get("creator")
        records = readable(event.payload.get("grants", []))
        if creator is not None:
            public_key_from_peer_id(_text(event.payload, "creator"))
    except (ValueError, KeyError, TypeError, CommitError, IdentityError) as error:
        raise RemoteProtocolError("The answer to a join is malformed.", phase="sync") from error
    desk = office.connections.desk
    try:
        # the user asked for the bundle by the name in the invite
        await state.join_accepted(
            desk, join.request_id, join.name, mode, label if isinstance(label, str) else "", goal
        )
    except StoreError as error:
        if error.retryable:
            raise
        await state.join_failed(desk, join.request_id, "refused_here", str(error), error.remedy)
        await office.look()
        return None
    try:
        await office.registry.take(join.bundle_id, creator, records, conversation.peer_id)
    except IdentityError as error:
        raise RemoteProtocolError("The answer to a join holds false grants.", phase="sync") from error
    await office.look()
    return join.bundle_id


async def refused(office: Office, conversation: Conversation, event: JoinRefused) -> None:
    """The inviter did not take this database in."""
    assert conversation.peer_id is not None, "an answer comes after authentication"
    for join in office.view.joins_at(conversation.peer_id):
        if join.invite_id == event.invite_id:
            code = event.code if event.code in REFUSALS else "unknown_invite"
            await state.join_failed(
                office.connections.desk, join.request_id, code, event.detail or REFUSALS[code], HINT
            )
    await office.look()


def _text(payload: object, name: str) -> str:
    value = payload[name] if isinstance(payload, dict) else None
    if not isinstance(value, str):
        raise TypeError(name)
    return value
