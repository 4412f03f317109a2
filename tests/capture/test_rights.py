"""A worker that may not switch triggers off merges nothing, says so, and goes on by itself once it may."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from fixtures.databases import Database, Databases
from fixtures.versions import BOTH
from merge.replica import Replica

from pgpeer.identity.key import PrivateKey
from pgpeer.store.install import install

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text)"
RIGHT = "SET ON PARAMETER session_replication_role"


def allow(superuser: psycopg.Connection, *, is_allowed: bool) -> None:
    """Give or take the right to keep triggers from firing; before version 15 only superusers have it."""
    if superuser.info.server_version >= 150000:
        words = ("GRANT", "TO") if is_allowed else ("REVOKE", "FROM")
        superuser.execute(f"{words[0]} {RIGHT} {words[1]} keeper".encode())
    else:
        superuser.execute(f"ALTER ROLE keeper {'' if is_allowed else 'NO'}SUPERUSER".encode())


@pytest.fixture(params=BOTH)
def keeper(
    request: pytest.FixtureRequest, databases: Databases
) -> Iterator[tuple[Replica, psycopg.Connection]]:
    """A database that an ordinary role owns pgpeer in, driven by that role, and a superuser's connection to it."""
    cluster, name = databases.bare(databases.cluster(request.param))
    with psycopg.connect(cluster.dsn(name), autocommit=True) as superuser:
        superuser.execute("DROP ROLE IF EXISTS keeper")
        superuser.execute("CREATE ROLE keeper LOGIN")
        superuser.execute(f"GRANT CREATE ON DATABASE {name} TO keeper".encode())
        superuser.execute("GRANT ALL ON SCHEMA public TO keeper")
        allow(superuser, is_allowed=True)
        dsn = cluster.dsn(name).replace("postgres@", "keeper@")
        install(dsn)
        replica = Replica("keeper", dsn, PrivateKey.from_seed(hashlib.sha256(name.encode()).digest()))
        replica.execute("SELECT peer_internal.set_identity(%s, 'keeper')", replica.key.public_key)
        if superuser.info.server_version < 150000:
            allow(superuser, is_allowed=False)  # only the installation needs a superuser, and merging
        yield replica, superuser
        replica.close()
        superuser.execute("DROP OWNED BY keeper CASCADE")
        superuser.execute("DROP ROLE keeper")
    databases.drop_named(cluster, name)


def test_without_the_right_commits_are_held_and_everything_else_goes_on(
    keeper: tuple[Replica, psycopg.Connection], make_database: Callable[..., Database]
) -> None:
    member, superuser = keeper
    database = make_database("author")
    author = Replica("author", database.dsn, database.key)
    author.write(NOTE, "INSERT INTO note VALUES (1, 'one')")
    author.create("shelf", "auto", [])
    author.execute("SELECT peer.track('shelf', 'note')")
    allow(superuser, is_allowed=True)
    member.adopt(author.bundle_id, "shelf", "auto")
    assert [outcome for _, outcome, _ in member.deliver(author.outgoing())] == ["merged"]

    gap = "SELECT kind, remedy FROM peer_internal.capture_gaps()"
    assert member.execute(gap) == []
    allow(superuser, is_allowed=False)
    ((kind, remedy),) = member.execute(gap)
    assert (kind, f"GRANT {RIGHT} TO keeper;" in str(remedy)) == ("missing_right", True)
    assert ("SUPERUSER" in str(remedy)) == (superuser.info.server_version < 150000)
    author.write("UPDATE note SET title = 'two'")
    author.commit()
    member.write("INSERT INTO note VALUES (7, 'mine')")
    assert member.commit() is not None, "capture and commits need no such right"
    ((_, outcome, _),) = member.deliver(author.outgoing(member.merged()))
    assert outcome == "held"
    told = [(kind, detail, remedy) for kind, _, _, _, detail, remedy in member.problems()]
    assert {kind for kind, _, _ in told} == {"missing_right"}
    assert any("is held" in detail and "session_replication_role" in detail for _, detail, _ in told)
    assert all(remedy for _, _, remedy in told)
    assert member.execute("SELECT title FROM note ORDER BY id") == [("one",), ("mine",)]
    assert {outcome for _, outcome, _ in author.deliver(member.outgoing(author.merged()))} <= {"merged"}

    allow(superuser, is_allowed=True)
    member.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    assert [outcome for _, outcome, _ in member.merge()] == ["merged"]
    assert member.problems() == []
    assert member.state_hash() == author.state_hash()
    author.close()


def test_a_new_partition_of_somebody_else_stops_commits_with_the_grant_that_helps(
    keeper: tuple[Replica, psycopg.Connection],
) -> None:
    member, superuser = keeper
    member.write("CREATE TABLE event (id integer PRIMARY KEY) PARTITION BY RANGE (id)")
    member.create("shelf", "auto", [])
    member.execute("SELECT peer.track('shelf', 'event')")
    superuser.execute("CREATE TABLE rest PARTITION OF event DEFAULT")
    superuser.execute("INSERT INTO rest VALUES (1)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not be captured") as caught:
        member.commit()
    hint = caught.value.diag.message_hint or ""
    superuser.execute(hint[: hint.index(";")].encode())
    assert member.commit() is not None
    member.execute("INSERT INTO rest VALUES (2)")
    assert [row[2] for row in member.status()] == ["INSERT"]


def test_user_triggers_and_foreign_key_actions_never_fire_in_a_merge_that_could_not_keep_them_quiet(
    keeper: tuple[Replica, psycopg.Connection], make_database: Callable[..., Database]
) -> None:
    """The degraded mode of PostgreSQL 14 without superuser: what cannot be merged quietly is not merged."""
    member, superuser = keeper
    database = make_database("author")
    author = Replica("author", database.dsn, database.key)
    author.write(
        NOTE,
        "CREATE TABLE line (id integer PRIMARY KEY, note integer REFERENCES note ON DELETE CASCADE)",
        "INSERT INTO note VALUES (1, 'one'), (2, 'two')",
        "INSERT INTO line VALUES (1, 1), (2, 2)",
    )
    author.create("shelf", "auto", [])
    author.execute("SELECT peer.track('shelf', t::regclass) FROM unnest(ARRAY['note', 'line']) AS t")
    allow(superuser, is_allowed=True)
    member.adopt(author.bundle_id, "shelf", "auto")
    member.deliver(author.outgoing())
    member.write(
        "CREATE TABLE fired (what text)",
        "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.fired VALUES (tg_op); RETURN NULL; END'",
        "CREATE TRIGGER fire AFTER INSERT OR UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION fire()",
    )
    allow(superuser, is_allowed=False)
    author.write("DELETE FROM note WHERE id = 1", "UPDATE note SET title = 'x' WHERE id = 2")
    author.commit()
    assert {outcome for _, outcome, _ in member.deliver(author.outgoing(member.merged()))} == {"held"}
    assert member.execute("SELECT * FROM fired") == []
    assert member.value("SELECT count(*) FROM line") == 2
    assert "missing_right" in {row[0] for row in member.problems()}
    member.write("INSERT INTO note VALUES (3, 'mine')")
    assert member.execute("SELECT what FROM fired") == [("INSERT",)]
    member.commit()
    assert {outcome for _, outcome, _ in author.deliver(member.outgoing(author.merged()))} == {"merged"}
    allow(superuser, is_allowed=True)
    member.execute("UPDATE peer_internal.commit SET retry_at = now() WHERE state = 'held'")  # as time does
    member.merge()
    assert member.problems() == []
    assert member.execute("SELECT what FROM fired") == [("INSERT",)], "a merge fired a trigger"
    assert member.execute("SELECT id FROM line") == [(2,)]
    assert member.state_hash() == author.state_hash()
    author.close()
