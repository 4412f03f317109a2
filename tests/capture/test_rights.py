"""A worker that may not switch triggers off merges nothing, says so, and goes on by itself once it may."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from fixtures.databases import Database, Databases
from merge.replica import Replica

from pgpeer.identity.key import PrivateKey
from pgpeer.store.install import install

NOTE = "CREATE TABLE note (id integer PRIMARY KEY, title text)"
RIGHT = "SET ON PARAMETER session_replication_role"


@pytest.fixture(params=["18", "15"])
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
        superuser.execute(f"GRANT {RIGHT} TO keeper".encode())
        dsn = cluster.dsn(name).replace("postgres@", "keeper@")
        install(dsn)
        replica = Replica("keeper", dsn, PrivateKey.from_seed(hashlib.sha256(name.encode()).digest()))
        replica.execute("SELECT peer_internal.set_identity(%s, 'keeper')", replica.key.public_key)
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
    member.adopt(author.bundle_id, "shelf", "auto")
    assert [outcome for _, outcome, _ in member.deliver(author.outgoing())] == ["merged"]

    gap = "SELECT kind, remedy FROM peer_internal.capture_gaps()"
    assert member.execute(gap) == []
    superuser.execute(f"REVOKE {RIGHT} FROM keeper".encode())
    assert member.execute(gap) == [("missing_right", f"GRANT {RIGHT} TO keeper;")]
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

    superuser.execute(f"GRANT {RIGHT} TO keeper".encode())
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
