"""The SQL side of application connections: requests, queues, limits, the inbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fixtures.databases import Database

from pgpeer.identity.key import PrivateKey

OTHER = PrivateKey.from_seed(b"o" * 32)


def one(connection: psycopg.Connection, query: str, *arguments: object) -> Any:
    row = connection.execute(query.encode(), arguments or None).fetchone()
    assert row is not None
    return row[0]


def apply(connection: psycopg.Connection, *operations: dict[str, Any]) -> dict[str, int]:
    found = one(connection, "SELECT peer_internal.channel_apply(%s)", json.dumps(operations))
    assert isinstance(found, dict)
    return found


CONTRACT = {
    "online_peers": ("", "TABLE(peer_id text, label text, last_seen timestamp with time zone)"),
    "connect": ("peer_id text, confirm_data_receival boolean DEFAULT false", "uuid"),
    "disconnect": ("connection_id uuid", "void"),
    "send": ("connection_id uuid, data text", "bigint"),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_a_function_has_the_promised_names_types_and_defaults(db: psycopg.Connection, name: str) -> None:
    query = (
        "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc"
        " WHERE pronamespace = 'peer'::regnamespace AND proname = %s"
    )
    assert db.execute(query, [name]).fetchall() == [CONTRACT[name]]


def test_the_inbox_and_the_view_have_the_promised_columns(db: psycopg.Connection) -> None:
    query = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    assert one(db, query, "peer.message") == "connection_id peer_id number data received_at"
    promised = "connection_id peer_id label direction path engine state rtt bytes_sent bytes_received since "
    assert one(db, query, "peer.connection").startswith(promised)


@pytest.fixture
def db(database: Database) -> psycopg.Connection:
    return database.connect()


@pytest.fixture
def connection_id(db: psycopg.Connection) -> str:
    return str(one(db, "SELECT peer.connect(%s)", OTHER.peer_id))


def refused(db: psycopg.Connection, query: str, *arguments: object) -> str:
    with pytest.raises(psycopg.Error) as raised:
        db.execute(query.encode(), arguments)
    assert raised.value.diag.message_hint
    return raised.value.sqlstate or ""


def test_connect_leaves_a_request_and_wakes_the_worker(database: Database, db: psycopg.Connection) -> None:
    listener = database.connect()
    listener.execute("LISTEN pgpeer_channel")
    connection_id = one(db, "SELECT peer.connect(%s, true)", OTHER.peer_id)
    assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == [""]
    (found,) = one(db, "SELECT peer_internal.channel_list() -> 'channels'")
    assert found["connection"] == str(connection_id)
    assert (found["peer_id"], found["direction"], found["confirm"], found["state"], found["farewell"]) == (
        OTHER.peer_id, "outgoing", True, "connecting", False
    )  # fmt: skip
    row = db.execute("SELECT peer_id, direction, state, path, kind FROM peer.connection").fetchone()
    assert row == (OTHER.peer_id, "outgoing", "connecting", None, "channel")


def test_what_cannot_be_connected_is_refused_with_a_state_of_its_own(
    database: Database, db: psycopg.Connection
) -> None:
    wrong = OTHER.peer_id[:-1] + ("a" if OTHER.peer_id[-1] != "a" else "b")
    assert refused(db, "SELECT peer.connect(%s)", "pg1x") == "PGN01"
    assert refused(db, "SELECT peer.connect(%s)", wrong) == "PGN01"
    assert refused(db, "SELECT peer.connect(NULL) FROM (SELECT %s) AS x", "") == "PGN01"
    assert refused(db, "SELECT peer.connect(%s)", database.peer_id) == "PGN02"
    db.execute("UPDATE peer.config SET connections_per_peer_max = 2")
    db.execute("SELECT peer.connect(%s), peer.connect(%s)", [OTHER.peer_id, OTHER.peer_id])
    assert refused(db, "SELECT peer.connect(%s)", OTHER.peer_id) == "PGN03"
    unknown = "00000000-0000-4000-8000-000000000000"
    assert refused(db, "SELECT peer.send(%s, 'x')", unknown) == "PGN04"
    assert refused(db, "SELECT peer.disconnect(%s)", unknown) == "PGN04"


def test_messages_are_numbered_in_the_order_of_commits_without_gaps(
    database: Database, db: psycopg.Connection, connection_id: str
) -> None:
    first, second = database.connect(autocommit=False), database.connect()
    assert one(first, "SELECT peer.send(%s, 'taken back')", connection_id) == 1
    numbers: list[int] = []
    waiter = threading.Thread(
        target=lambda: numbers.append(one(second, "SELECT peer.send(%s, 'a')", connection_id))
    )
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive()
    first.rollback()
    waiter.join(5)
    assert numbers == [1]
    assert one(db, "SELECT peer.send(%s, 'b')", connection_id) == 2
    rows = db.execute("SELECT * FROM peer_internal.channel_outgoing(%s, %s, 1000)", [[connection_id], [0]])
    assert [row[1:] for row in rows] == [(1, "a", True), (2, "b", False)]


def test_the_worker_does_not_wait_for_a_transaction_that_sends_or_disconnects(
    database: Database, db: psycopg.Connection, connection_id: str
) -> None:
    db.execute("SELECT peer.send(%s, 'one')", [connection_id])
    user = database.connect(autocommit=False)
    user.execute("SELECT peer.send(%s, 'two')", [connection_id])
    user.execute("SELECT peer.disconnect(%s)", [connection_id])
    db.execute("SET lock_timeout = '500 ms'")
    message = {"number": 1, "data": "hi"}
    apply(
        db,
        {"op": "opened", "connection": connection_id, "peer_id": OTHER.peer_id},
        {"op": "acknowledged", "connection": connection_id, "peer_id": OTHER.peer_id, "number": 1, "chain": "aa"},
        {"op": "messages", "connection": connection_id, "peer_id": OTHER.peer_id, "messages": [message], "number": 1, "bytes": 2, "chain": "bb"},
        {"op": "closing", "connection": connection_id},
    )  # fmt: skip
    db.execute("SELECT peer_internal.channel_prune('0 s')")
    user.rollback()
    assert one(db, "SELECT acknowledged FROM peer_internal.channel") == 1


def test_a_message_of_the_wrong_size_or_none_is_refused(db: psycopg.Connection, connection_id: str) -> None:
    assert one(db, "SELECT peer.send(%s, '')", connection_id) == 1
    assert one(db, "SELECT peer.send(%s, repeat('x', 262144))", connection_id) == 2
    assert refused(db, "SELECT peer.send(%s, repeat('x', 262145))", connection_id) == "PGN06"
    assert refused(db, "SELECT peer.send(%s, repeat('é', 131073))", connection_id) == "PGN06"
    assert refused(db, "SELECT peer.send(%s, NULL)", connection_id) == "PGN08"
    assert one(db, "SELECT peer.send(%s, 'next')", connection_id) == 3


def test_the_queue_is_bounded_in_messages_and_bytes_and_acknowledgements_make_room(
    db: psycopg.Connection, connection_id: str
) -> None:
    db.execute("UPDATE peer.config SET message_queue_count_max = 3, message_queue_bytes_max = 300000")
    for _ in range(3):
        db.execute("SELECT peer.send(%s, 'abc')", [connection_id])
    assert refused(db, "SELECT peer.send(%s, 'abc')", connection_id) == "PGN07"
    acknowledged = {"op": "acknowledged", "connection": connection_id, "peer_id": OTHER.peer_id}
    apply(db, acknowledged | {"number": 2, "chain": "00"})
    assert one(db, "SELECT peer.send(%s, repeat('x', 200000))", connection_id) == 4
    assert refused(db, "SELECT peer.send(%s, repeat('x', 100000))", connection_id) == "PGN07"
    apply(db, acknowledged | {"number": 4, "chain": "00"})
    assert one(db, "SELECT peer.send(%s, repeat('x', 100000))", connection_id) == 5
    assert one(db, "SELECT array_agg(number) FROM peer_internal.outgoing_message") == [5]


def test_received_messages_stand_in_the_inbox_with_events(
    database: Database, db: psycopg.Connection, connection_id: str
) -> None:
    listener = database.connect()
    listener.execute("LISTEN peer_event")
    messages = [{"number": 1, "data": "één\t\\N"}, {"number": 2, "data": ""}]
    rooms = apply(
        db,
        {"op": "messages", "connection": connection_id, "peer_id": OTHER.peer_id, "messages": messages, "number": 2, "bytes": 9, "chain": "cc"},
    )  # fmt: skip
    rows = db.execute("SELECT peer_id, number, data FROM peer.message ORDER BY number").fetchall()
    assert rows == [(OTHER.peer_id, 1, "één\t\\N"), (OTHER.peer_id, 2, "")]
    assert rooms == {connection_id: 67108864 - 8}
    ids = [int(note.payload) for note in listener.notifies(timeout=5, stop_after=2)]
    events = db.execute(
        "SELECT kind, detail FROM peer.event WHERE id = ANY(%s) ORDER BY id", [ids]
    ).fetchall()
    assert events == [("message-received", "Message 1."), ("message-received", "Message 2.")]
    with pytest.raises(psycopg.Error):  # a repeated message would break the key, not stand twice
        apply(
            db,
            {"op": "messages", "connection": connection_id, "peer_id": OTHER.peer_id, "messages": messages, "number": 2, "bytes": 9, "chain": "cc"},
        )  # fmt: skip


def test_a_full_inbox_has_no_room_until_messages_are_deleted(
    db: psycopg.Connection, connection_id: str
) -> None:
    db.execute("UPDATE peer.config SET message_inbox_count_max = 2")
    db.execute(
        "INSERT INTO peer.message SELECT %s, 'x', n, 'data' FROM generate_series(1, 2) AS n", [connection_id]
    )
    room = "SELECT peer_internal.channel_rooms(ARRAY[%s::uuid])"
    assert one(db, room, connection_id) == {connection_id: 0}
    db.execute("DELETE FROM peer.message WHERE number = 1")
    assert one(db, room, connection_id) == {connection_id: 67108864 - 4}


def test_the_end_is_told_with_reason_and_code_and_nothing_can_be_sent_after_it(
    db: psycopg.Connection, connection_id: str
) -> None:
    db.execute("SELECT peer.send(%s, 'lost')", [connection_id])
    end = {
        "op": "closed", "connection": connection_id, "reason": "connection-error", "code": "timeout",
        "phase": "signalling", "retryable": True, "detail": "The peer was not found.", "hint": "Try later.",
    }  # fmt: skip
    apply(db, end)
    apply(db, end)
    row = db.execute(
        "SELECT reason, code, phase, retryable, detail, hint FROM peer.event WHERE kind = 'connection-closed'"
    ).fetchall()
    assert row == [
        ("connection-error", "timeout", "signalling", True, "connection-error: The peer was not found.", "Try later.")
    ]  # fmt: skip
    assert refused(db, "SELECT peer.send(%s, 'x')", connection_id) == "PGN05"
    db.execute("SELECT peer.disconnect(%s)", [connection_id])
    assert one(db, "SELECT count(*) FROM peer_internal.outgoing_message") == 0
    assert one(db, "SELECT count(*) FROM peer.connection") == 0
    db.execute("SELECT peer_internal.channel_prune('1 hour')")
    assert refused(db, "SELECT peer.send(%s, 'x')", connection_id) == "PGN05"
    db.execute("SELECT peer_internal.channel_prune('0 s')")
    assert refused(db, "SELECT peer.send(%s, 'x')", connection_id) == "PGN04"


@pytest.mark.parametrize(
    ("reason", "code", "ends"),
    [
        ("peer-requested-closed", "local_closed", [True]),
        ("peer-requested-closed", "remote_closed", [False]),
        ("connection-error", "timeout", []),
    ],
)
def test_wished_ends_are_remembered_until_they_are_pruned(
    db: psycopg.Connection, connection_id: str, reason: str, code: str, ends: list[bool]
) -> None:
    db.execute(
        "SELECT peer_internal.channel_closed(%s, %s, %s, '', true, 'over', '')", [connection_id, reason, code]
    )
    found = db.execute("SELECT connection_id, was_here FROM peer_internal.channel_ends()").fetchall()
    assert found == [(UUID(str(connection_id)), was_here) for was_here in ends]
    db.execute("SELECT peer_internal.channel_prune('0 s')")
    assert one(db, "SELECT count(*) FROM peer_internal.channel_ends()") == 0


def test_after_disconnect_nothing_more_is_taken_but_what_was_sent_stays(
    db: psycopg.Connection, connection_id: str
) -> None:
    db.execute("SELECT peer.send(%s, 'before')", [connection_id])
    db.execute("SELECT peer.disconnect(%s)", [connection_id])
    db.execute("SELECT peer.disconnect(%s)", [connection_id])
    assert refused(db, "SELECT peer.send(%s, 'after')", connection_id) == "PGN05"
    (found,) = one(db, "SELECT peer_internal.channel_list() -> 'channels'")
    assert (found["farewell"], found["last"]) == (True, 1)
    assert one(db, "SELECT state FROM peer.connection") == "closing"


def accept(db: psycopg.Connection, connection_id: str) -> tuple[Any, ...]:
    row = db.execute(
        "SELECT refusal, room FROM peer_internal.channel_accept(%s, %s, true)", [connection_id, OTHER.peer_id]
    ).fetchone()
    assert row is not None
    return row


def test_who_may_connect_follows_the_configuration(db: psycopg.Connection) -> None:
    first, second = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
    assert accept(db, first) == ("refused_policy", None)
    assert one(db, "SELECT count(*) FROM peer.event") == 0
    db.execute("UPDATE peer.config SET accept = 'open'")
    assert accept(db, first) == (None, 67108864)
    assert accept(db, first) == ("replay", None)
    db.execute("UPDATE peer.config SET accept = 'invited'")
    bundle = one(db, "SELECT peer.create_bundle('atlas')")
    db.execute("SELECT peer_internal.add_member(%s, %s, 'reader', 'other')", [bundle, OTHER.public_key])
    assert accept(db, second) == (None, 67108864)
    rows = db.execute("SELECT kind, connection_id::text, peer_id FROM peer.event ORDER BY id").fetchall()
    assert rows == [("incoming-connection", one, OTHER.peer_id) for one in (first, second)]
    assert one(db, "SELECT peer.send(%s, 'answer')", second) == 1


def test_the_id_of_a_connection_whose_messages_are_not_read_yet_is_not_taken_again(
    db: psycopg.Connection,
) -> None:
    ended, fresh = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
    db.execute("UPDATE peer.config SET accept = 'open'")
    assert accept(db, ended)[0] is None
    message = {"op": "messages", "connection": ended, "peer_id": OTHER.peer_id, "number": 1, "chain": "aa"}
    apply(db, message | {"bytes": 1, "messages": [{"number": 1, "data": "x"}]})
    db.execute(
        "SELECT peer_internal.channel_closed(%s, 'connection-error', 'timeout', '', true, '', '')", [ended]
    )
    db.execute("SELECT peer_internal.channel_prune('0 s')")
    assert one(db, "SELECT count(*) FROM peer_internal.channel") == 0
    assert accept(db, ended) == ("replay", None)
    assert accept(db, fresh)[0] is None
    db.execute("DELETE FROM peer.message")
    assert accept(db, ended)[0] is None


def test_friends_may_connect_where_it_is_so_configured_and_the_blocked_never(db: psycopg.Connection) -> None:
    ids = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(4)]
    db.execute("INSERT INTO peer.friend (peer_id, state) VALUES (%s, 'accepted')", [OTHER.peer_id])
    assert accept(db, ids[0])[0] == "refused_policy"
    db.execute("UPDATE peer.config SET accept = 'friends'")
    assert accept(db, ids[1])[0] is None
    db.execute("UPDATE peer.friend SET state = 'requested'")
    assert accept(db, ids[2])[0] == "refused_policy"
    db.execute("UPDATE peer.friend SET state = 'blocked'")
    db.execute("UPDATE peer.config SET accept = 'open'")
    assert accept(db, ids[3])[0] == "refused_blocked"


def test_a_peer_that_opens_connections_without_end_is_slowed_down(db: psycopg.Connection) -> None:
    db.execute("UPDATE peer.config SET accept = 'open'")
    for _ in range(120):
        connection_id = str(one(db, "SELECT gen_random_uuid()"))
        assert accept(db, connection_id)[0] is None
        apply(
            db, {"op": "closed", "connection": connection_id, "reason": "peer-requested-closed", "detail": ""}
        )
    refused_id = str(one(db, "SELECT gen_random_uuid()"))
    assert accept(db, refused_id)[0] == "rate_limited"
    db.execute("UPDATE peer_internal.channel SET since = since - interval '1 minute'")
    assert accept(db, refused_id)[0] is None


def test_confirmations_are_events_only_where_they_were_asked_for(db: psycopg.Connection) -> None:
    plain = str(one(db, "SELECT peer.connect(%s)", OTHER.peer_id))
    confirmed = str(one(db, "SELECT peer.connect(%s, true)", OTHER.peer_id))
    for connection_id in (plain, confirmed):
        db.execute("SELECT peer.send(%s, 'a'), peer.send(%s, 'b')", [connection_id, connection_id])
        apply(db, {"op": "acknowledged", "connection": connection_id, "peer_id": OTHER.peer_id, "number": 2, "chain": "00"})  # fmt: skip
    rows = db.execute(
        "SELECT connection_id::text, detail FROM peer.event WHERE kind = 'message-confirmed' ORDER BY id"
    ).fetchall()
    assert rows == [(confirmed, "Message 1."), (confirmed, "Message 2.")]


def test_online_are_the_peers_a_running_worker_knows_of(database: Database, db: psycopg.Connection) -> None:
    db.execute("SELECT peer_internal.set_presence(ARRAY[%s, 'x'])", [OTHER.peer_id])
    assert db.execute("SELECT * FROM peer.online_peers()").fetchall() == []
    worker = database.connect()
    worker.execute("SELECT peer_internal.try_worker_lock()")
    found = db.execute("SELECT peer_id, label FROM peer.online_peers() ORDER BY 1 DESC").fetchall()
    assert found == [("x", None), (OTHER.peer_id, None)]
    db.execute("SELECT peer_internal.set_presence('{}')")
    db.execute(
        "SELECT peer_internal.worker_connected(gen_random_uuid(), %s, 'ship', 'incoming', 'webrtc', 'aiortc', '', '')",
        [OTHER.peer_id],
    )
    assert db.execute("SELECT peer_id, label FROM peer.online_peers()").fetchall() == [
        (OTHER.peer_id, "ship")
    ]


def test_of_several_programs_that_take_each_message_goes_to_one(
    make_database: Callable[..., Database],
) -> None:
    database = make_database()
    db = database.connect()
    connection_id = str(one(db, "SELECT peer.connect(%s)", OTHER.peer_id))
    db.execute(
        "INSERT INTO peer.message SELECT %s, 'x', n, 'm' || n FROM generate_series(1, 200) AS n",
        [connection_id],
    )
    taken: list[list[int]] = [[], []]

    def take(who: int, connection: psycopg.Connection) -> None:
        while rows := connection.execute(
            "SELECT number FROM peer_internal.client_take(ARRAY[%s::uuid], 7)", [connection_id]
        ).fetchall():
            taken[who] += [number for (number,) in rows]

    threads = [threading.Thread(target=take, args=(who, database.connect())) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken[0] + taken[1]) == list(range(1, 201))
    assert taken[0] == sorted(taken[0])
    assert taken[1] == sorted(taken[1])
