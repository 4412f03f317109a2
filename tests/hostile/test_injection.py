"""SQL in every name and value that crosses the wire: it arrives as it is, or is refused, and nothing runs it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from uuid import uuid4

import pytest
from system.processes import Peer, wait_until_equal

from pgpeer.channel import messages as programs
from pgpeer.channel.limits import WINDOW_BYTES
from pgpeer.protocol import events, messages

from .crafting import update, with_data
from .stage import Stage

_NUMBERS = itertools.count(1)


def attack(limit: int = 63) -> str:
    """Something new each time that would drop the canary wherever it was taken for SQL."""
    text = f"{next(_NUMBERS)}'); DROP TABLE public.canary; --"
    assert len(text) <= limit
    return text


FORMS = [
    "x'; DROP TABLE public.canary; --",
    "x''; DROP TABLE public.canary; --",
    "\\'; DROP TABLE public.canary; --",
    '"; DROP TABLE public.canary; --',
    "$$; DROP TABLE public.canary; $$",
    "$1; DROP TABLE public.canary",
    "%s %I %L %1$s'; DROP TABLE public.canary; --",
    "{public.canary}",
    "\ufeff'\u02bc\uff07; DROP TABLE public.canary; --",
    "x\\\n\t'\b; DROP TABLE public.canary; --",
    "\\N",
    "\\.",
    "",
]
"""Values: each ends a literal, an identifier or a line of COPY in another way."""

ROLES = "SELECT string_agg(rolname || rolsuper, ',' ORDER BY rolname) FROM pg_roles"


@pytest.fixture
def canary(stage: Stage) -> Iterator[Stage]:
    """Tables whose loss would show, in both databases, and roles that nobody may have made."""
    peers = (stage.ann, stage.bob)
    for peer in peers:
        peer.run("CREATE TABLE IF NOT EXISTS public.canary AS SELECT 'sings' AS it")
    roles = [peer.value(ROLES) for peer in peers]
    yield stage
    for peer in peers:
        assert peer.value("SELECT it FROM public.canary") == "sings"
        assert peer.worker is not None
        assert peer.worker.process.poll() is None
    assert [peer.value(ROLES) for peer in peers] == roles


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


NAMES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname LIKE '%DROP%'"
COLUMNS = "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0"
CONSTRAINTS = "SELECT array_agg(conname::text ORDER BY conname) FROM pg_constraint WHERE conrelid = {}::regclass AND contype IN ('p', 'u', 'c')"
DEFAULTS = "SELECT array_agg(pg_get_expr(adbin, adrelid) ORDER BY adnum) FROM pg_attrdef WHERE adrelid = {}::regclass"


def test_names_of_bundles_tables_columns_constraints_defaults_types_and_messages(canary: Stage) -> None:
    ann, bob = canary.ann, canary.bob
    bundle, table = attack(), attack()
    key, column, other = attack(), '2"; DROP TABLE public.canary; --', attack()
    ann.run(
        f"CREATE TABLE public.{quoted(table)} ({quoted(key)} text CONSTRAINT {quoted(attack())} PRIMARY KEY,"
        f" {quoted(column)} text DEFAULT {literal(attack())} CONSTRAINT {quoted(attack())} CHECK ({quoted(column)} <> {literal(attack())}),"
        f" {quoted(other)} int CONSTRAINT {quoted(attack())} UNIQUE)"
    )
    name = literal("public." + quoted(table))
    ann.run("SELECT peer.create_bundle(%s, 'manual')", bundle)
    ann.run("SELECT peer.track(%s, %s::regclass)", bundle, "public." + quoted(table))
    rows = [(form, form, number) for number, form in enumerate(FORMS)]
    for row in rows:
        ann.run(f"INSERT INTO public.{quoted(table)} VALUES (%s, %s, %s)", *row)
    message = attack(100)
    ann.run("SELECT peer.commit(%s, %s)", bundle, message)
    bob.join(ann, bundle)
    bob.wait_until(f"SELECT count(*) = {len(rows)} FROM public.{quoted(table)}")
    assert bob.run(f"SELECT * FROM public.{quoted(table)} ORDER BY 3") == rows
    for query in (COLUMNS, CONSTRAINTS, DEFAULTS):
        assert bob.value(query.format(name)) == ann.value(query.format(name))
    assert message in {text for (text,) in bob.run("SELECT message FROM peer.log(%s)", bundle)}
    assert bob.run("SELECT name FROM peer_internal.bundle WHERE name = %s", bundle) == [(bundle,)]
    # keys that end literals are updated and deleted at the other side too
    for form in FORMS[1:]:
        bob.run(
            f"UPDATE public.{quoted(table)} SET {quoted(column)} = %s WHERE {quoted(key)} = %s",
            "new " + form,
            form,
        )
    bob.run(f"DELETE FROM public.{quoted(table)} WHERE {quoted(key)} = %s", FORMS[0])
    bob.run("SELECT peer.commit(%s, %s)", bundle, attack(100))
    ann.wait_until(f"SELECT count(*) = {len(rows) - 1} FROM public.{quoted(table)}")
    wait_until_equal(ann, bob, bundle=bundle)
    values = f"SELECT array_agg({quoted(column)} ORDER BY {quoted(other)}) FROM public.{quoted(table)}"
    assert ann.value(values) == bob.value(values) == ["new " + form for form in FORMS[1:]]


def test_what_a_hostile_member_says_of_itself_and_others(canary: Stage) -> None:
    ann = canary.ann
    label = attack(100)
    villain, talk = canary.member(label)
    assert ann.value("SELECT label FROM peer.connection WHERE peer_id = %s", villain.peer_id) == label
    bundle = canary.ground.bundle_id
    detail, hint, code = attack(), attack(), attack()
    villain.do(talk.say(messages.Error(code, code, True, detail, hint)))
    assert canary.event(villain, "peer-error", has_phase=False) == (None, "internal", True, detail, hint)
    for members in ({attack(): "writer"}, {villain.peer_id[:-1] + "'": "reader"}):
        villain.do(talk.say(messages.JoinAccepted(bundle, {"members": members})))
        assert villain.do(talk.stays())
    villain.do(talk.say(messages.JoinAccepted(bundle, {"members": {villain.peer_id: attack()}})))
    villain.do(talk.end())
    canary.blamed(villain, "bad_message")
    talk = canary.again(villain)
    villain.do(talk.say(messages.JoinAccepted(bundle, {"creator": attack(), "grants": [attack()]})))
    villain.do(talk.end())
    canary.blamed(villain, "bad_message")
    assert not ann.value("SELECT EXISTS (SELECT FROM peer.member WHERE peer_id LIKE '%DROP%')")


def test_messages_and_values_of_commits_of_a_hostile_member(canary: Stage) -> None:
    ann = canary.ann
    villain, talk = canary.member()
    previous = None
    for number, form in enumerate(FORMS[:8] + FORMS[-1:], start=1):
        escaped = form.replace("\\", "\\\\")
        made = update(canary.ground, villain.key, escaped, 20 + number, seq=number)
        parents = (previous,) if previous else made.header.parents
        made = made.changed(previous=previous, parents=parents, message=form or None)
        previous = made.header.digest
        villain.do(talk.say(*made.said()))
        ann.wait_until("SELECT name = %s FROM public.city WHERE id = %s", form, 20 + number)
    canary.agree()


@pytest.mark.parametrize(
    "line",
    ["1; DROP TABLE public.canary\tRome", "1\tRome\n\\.\nDROP TABLE public.canary;", "1 OR true\tRome"],
)
def test_keys_and_lines_of_a_hostile_member_that_are_no_rows(canary: Stage, line: str) -> None:
    """A key that is no number, an end of COPY amid the data: refused or held, and never executed."""
    villain, talk = canary.member()
    data = (line + "\n").encode()
    with canary.unchanged():
        villain.do(talk.say(*with_data(update(canary.ground, villain.key, "x"), data).said()))
        villain.do(talk.stays(1.0))
    assert canary.goes_on() < 10


def test_messages_between_programs(canary: Stage) -> None:
    ann = canary.ann
    villain, talk = canary.member()
    connection_id = uuid4()
    said = [programs.Open(connection_id, False, WINDOW_BYTES)]
    said += [programs.Data(connection_id, number, form) for number, form in enumerate(FORMS, start=1)]
    for one in said[:1]:
        villain.do(talk.say(messages.Channel(programs.encode(one))))
    villain.do(talk.until(events.ChannelReceived))
    for one in said[1:]:
        villain.do(talk.say(messages.Channel(programs.encode(one))))
    ann.wait_until(
        "SELECT count(*) = %s FROM peer.message WHERE connection_id = %s", len(FORMS), connection_id
    )
    assert ann.run(
        "SELECT data FROM peer.message WHERE connection_id = %s ORDER BY number", connection_id
    ) == [(form,) for form in FORMS]
    reason = attack()
    villain.do(
        talk.say(messages.Channel(programs.encode(programs.Close(connection_id, False, reason, reason))))
    )
    ann.wait_until(
        "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'connection-closed' AND connection_id = %s AND detail = 'connection-error: ' || %s AND code = 'internal')",
        connection_id,
        reason,
    )


def test_what_people_type_into_the_doors_of_sql(canary: Stage) -> None:
    """Names that are unknown here are refused, and stand literally in the refusal."""
    ann: Peer = canary.ann
    calls = [
        "SELECT peer.status(%s)", "SELECT peer.log(%s)", "SELECT peer.commit(%s, 'x')", "SELECT peer.invite(%s)",
        "SELECT peer.state_hash(%s)", "SELECT peer.join(%s)", "SELECT peer.befriend(%s)", "SELECT peer.block(%s)",
        "SELECT peer.connect(%s)", "SELECT peer.show('atlas', %s)", "SELECT peer.diff('atlas', %s)",
        "SELECT peer.wait_for('atlas', %s)", "SELECT peer.set_role('atlas', %s, 'reader')",
        "SELECT peer.remove_member('atlas', %s)", "SELECT peer.create_bundle('b', %s)",
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(Exception) as refused:  # noqa: PT011 - of any kind, but of PostgreSQL
            ann.run(call, attack())
        assert getattr(refused.value, "sqlstate", "")[:2] not in ("", "42", "XX") or "syntax" not in str(
            refused.value
        )
