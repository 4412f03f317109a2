"""What an earlier version has stored for tracked tables is that of the present one after an upgrade, by each way."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from install.conftest import ExtensionServer
from system.processes import Peer, wait_until_equal

from pgpeer.identity.key import PrivateKey
from pgpeer.store.extension import extension_files
from pgpeer.store.install import install
from pgpeer.store.script import plain_script

Run = Callable[..., list[tuple[object, ...]]]
Make = Callable[..., Peer]

KEY = PrivateKey.from_seed(b"c" * 32)
TABLES = (
    "CREATE TABLE public.city (id int PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE public.street (city int, name text, length numeric, PRIMARY KEY (city, name))",
    "CREATE TABLE public.visit (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE public.visit_old PARTITION OF public.visit FOR VALUES FROM (MINVALUE) TO ('2020-01-01')",
    "CREATE TABLE public.visit_new PARTITION OF public.visit FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)",
    "CREATE TABLE public.changed (id int PRIMARY KEY, value int)",
    "CREATE TABLE public.dropped (id int PRIMARY KEY)",
    "CREATE TABLE public.left (id int PRIMARY KEY)",
    "SELECT peer.create_bundle('atlas', 'manual'), peer.create_bundle('live', 'auto')",
    "SELECT peer.track('atlas', t::regclass) FROM unnest(ARRAY['city', 'street', 'changed', 'dropped', 'left']) AS t",
    "SELECT peer.track('live', 'visit')",
    "SELECT peer.untrack('public.left')",
    "DROP TABLE public.dropped",
    "ALTER TABLE public.changed ALTER COLUMN value TYPE text",
    "SELECT peer.commit('atlas')",  # from now on the changed table is neither captured nor merged into
    "INSERT INTO public.city VALUES (1, 'Bern')",
    "SELECT peer.commit('atlas')",
)
STORED = "SELECT relation_number, fold_sql, seal_sql FROM peer_internal.relation ORDER BY 1"
CAPTURES = """
    SELECT p.proname::text, pg_get_functiondef(p.oid), p.proacl::text, obj_description(p.oid, 'pg_proc')
      FROM pg_proc AS p WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname ~ '^capture_[a-z]+_[0-9]+$' ORDER BY 1
"""
VERSIONS_OF_ROWS = """
    SELECT 'p ' || p.oid || ' ' || p.xmin FROM pg_proc AS p WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname ~ '^capture_[a-z]+_[0-9]+$'
    UNION ALL SELECT 'r ' || r.relation_number || ' ' || r.xmin FROM peer_internal.relation AS r ORDER BY 1
"""
OF_EXTENSION = """
    SELECT p.proname FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
     WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname ~ '^capture_[a-z]+_[0-9]+$'
"""
KEPT_RIGHTS = """
    SELECT p.proname FROM pg_proc AS p JOIN pg_init_privs AS i ON i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid
     WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname ~ '^capture_[a-z]+_[0-9]+$'
"""
AGED = """
DO $$
DECLARE
    capture regprocedure;
BEGIN
    UPDATE peer_internal.relation SET fold_sql = 'an old statement', seal_sql = 'another' WHERE is_tracked;
    FOR capture IN SELECT p.oid FROM pg_proc AS p WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname ~ '^capture_[a-z]+_[0-9]+$' LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION %s RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp'
                       ' AS ''BEGIN RAISE ''''a fault of an old version''''; END''', capture);
    END LOOP;
END
$$
"""


def entered(server: ExtensionServer, run: Run, way: str, dsn: str) -> None:
    """The first installation, as that of an earlier release."""
    match way:
        case "migrations":
            install(dsn)
        case "plain":
            run(dsn, plain_script())
        case _:
            server.offer(extension_files("0.0.1"))
            run(dsn, "CREATE EXTENSION pgpeer")


def upgraded(server: ExtensionServer, run: Run, way: str, dsn: str, before: str = "0.0.1") -> None:
    match way:
        case "migrations":
            install(dsn)
        case "plain":
            run(dsn, plain_script())
        case _:
            server.offer(
                extension_files("0.0.2" if before == "0.0.1" else "0.0.3", earlier=("0.0.1", "0.0.2"))
            )
            run(dsn, "ALTER EXTENSION pgpeer UPDATE")


@pytest.mark.parametrize("way", ["migrations", "plain", "extension"])
def test_an_upgrade_writes_anew_what_is_stored_for_tracked_tables(
    extension_server: ExtensionServer, run: Run, way: str
) -> None:
    dsn = extension_server.bare()
    entered(extension_server, run, way, dsn)
    run(dsn, f"SELECT peer_internal.set_identity('\\x{KEY.public_key.hex()}', 'lab')", *TABLES)
    stored, captures = run(dsn, STORED), run(dsn, CAPTURES)
    assert len(captures) == 4 * 5, "what was dropped keeps its trigger functions, what was left does not"
    run(dsn, AGED)
    with pytest.raises(psycopg.errors.RaiseException, match="a fault of an old version"):
        run(dsn, "INSERT INTO public.city VALUES (2, 'Basel')")
    upgraded(extension_server, run, way, dsn)
    dropped = run(dsn, "SELECT relation_number FROM peer_internal.relation WHERE table_name = 'dropped'")[0][
        0
    ]
    assert [row for row in run(dsn, STORED) if row[0] != dropped] == [
        row for row in stored if row[0] != dropped
    ]
    is_gone = f"_{dropped}"
    assert [row for row in run(dsn, CAPTURES) if not str(row[0]).endswith(is_gone)] == [
        row for row in captures if not str(row[0]).endswith(is_gone)
    ]
    assert run(dsn, OF_EXTENSION) == []
    assert run(dsn, KEPT_RIGHTS) == []
    # what people write is captured and committed as by the version that was aged
    run(
        dsn,
        "INSERT INTO public.city VALUES (2, 'Basel')",
        "UPDATE public.city SET name = 'Berne' WHERE id = 1",
        "INSERT INTO public.street VALUES (1, 'Marktgasse', 1.50)",
        "INSERT INTO public.visit VALUES (1, '2019-12-31', 'old'), (2, '2020-01-01', 'new')",
        "INSERT INTO public.changed VALUES (1, 'passes')",
    )
    assert run(dsn, "SELECT peer.commit('atlas') IS NOT NULL, peer.commit('live') IS NOT NULL") == [
        (True, True)
    ]
    written = run(
        dsn,
        "SELECT r.table_name, s.op, s.data FROM peer_internal.section AS s JOIN peer_internal.relation AS r USING (relation_id)"
        " WHERE s.op <> 'SCHEMA' ORDER BY 1, 2, s.data COLLATE \"C\"",
    )
    assert written == [
        ("city", "INSERT", "1\tBern\n"),
        ("city", "INSERT", "2\tBasel\n"),
        ("city", "UPDATE", "1\tBerne\n"),
        ("street", "INSERT", "1\tMarktgasse\t1.50\n"),
        ("visit", "INSERT", "1\t2019-12-31\told\n2\t2020-01-01\tnew\n"),
    ]
    # where nothing differs nothing is written
    before = run(dsn, VERSIONS_OF_ROWS)
    upgraded(extension_server, run, way, dsn, before="0.0.2")
    assert run(dsn, VERSIONS_OF_ROWS) == before
    assert run(dsn, KEPT_RIGHTS) == []
    assert run(dsn, "SELECT peer_internal.rebuild_tracked()") == [(0,)]


def test_a_role_that_may_not_replace_a_capture_upgrades_the_rest(
    extension_server: ExtensionServer, run: Run
) -> None:
    if extension_server.cluster.version < 15:
        pytest.skip("before version 15 only a superuser installs, who may replace everything")
    dsn = extension_server.bare()
    install(dsn)
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    run(
        dsn,
        f"SELECT peer_internal.set_identity('\\x{KEY.public_key.hex()}', 'lab')",
        "DROP ROLE IF EXISTS keeper",
        "CREATE ROLE keeper LOGIN",
        f"GRANT CREATE ON DATABASE {name} TO keeper",
        "GRANT SET ON PARAMETER session_replication_role TO keeper",
        *TABLES[:2],
        "SELECT peer.create_bundle('atlas', 'manual')",
        "SELECT peer.track('atlas', 'public.city'), peer.track('atlas', 'public.street')",
        AGED,
    )
    try:
        for query in (
            "SELECT format('ALTER SCHEMA %s OWNER TO keeper', n) FROM unnest(ARRAY['peer', 'peer_internal']) AS n",
            "SELECT format('ALTER %s %s OWNER TO keeper', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)"
            " FROM pg_class AS c WHERE c.relnamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace) AND c.relkind IN ('r', 'v')",
            "SELECT format('ALTER ROUTINE %s OWNER TO keeper', p.oid::regprocedure) FROM pg_proc AS p"
            " WHERE p.pronamespace IN ('peer'::regnamespace, 'peer_internal'::regnamespace) AND p.proname !~ '^capture_[a-z]+_2$'",
        ):
            run(dsn, *(str(row[0]) for row in run(dsn, query)))
        install(dsn.replace("postgres@", "keeper@"))
        old = run(
            dsn, f"SELECT c.proname FROM ({CAPTURES}) AS c(proname, text) WHERE text LIKE '%an old version%'"
        )
        assert {str(row[0])[-1] for row in old} == {"2"}
        # by the role that tracked it
        assert install(dsn).state == "unchanged"
        assert (
            run(dsn, f"SELECT FROM ({CAPTURES}) AS c(proname, text) WHERE text LIKE '%an old version%'") == []
        )
    finally:
        run(dsn, "REASSIGN OWNED BY keeper TO postgres", "DROP OWNED BY keeper CASCADE", "DROP ROLE keeper")


def test_peers_exchange_after_one_of_them_was_upgraded(atlas: Make, make_peer: Make) -> None:
    ann, bob = atlas(), make_peer("bob")
    bob.start()
    bob.join(ann)
    for peer in (ann, bob):
        peer.end()
        peer.run(AGED)
        install(peer.database.dsn)
        peer.start()
    ann.run("UPDATE public.city SET name = 'after' WHERE id <= 10")
    bob.run("DELETE FROM public.city WHERE id > 490")
    bob.wait_until("SELECT count(*) = 10 FROM public.city WHERE name = 'after'")
    wait_until_equal(ann, bob)
    assert ann.value("SELECT count(*) FROM public.city") == 490
