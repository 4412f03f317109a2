"""Everything that a catalog holds about pgpeer's objects, as rows that can be compared between databases."""

from __future__ import annotations

import psycopg

_ROOM = "(SELECT oid FROM pg_namespace WHERE nspname IN ('peer', 'peer_internal'))"

CATALOG = f"""
    SELECT 'schema' AS kind, n.nspname::text AS name,
           concat_ws(' | ', pg_get_userbyid(n.nspowner), n.nspacl::text, obj_description(n.oid, 'pg_namespace')) AS what
      FROM pg_namespace AS n WHERE n.oid IN {_ROOM}
    UNION ALL
    SELECT 'relation', c.oid::regclass::text,
           concat_ws(' | ', c.relkind, c.relpersistence, pg_get_userbyid(c.relowner), c.relacl::text, c.reloptions::text,
                     c.relrowsecurity, c.relreplident, obj_description(c.oid, 'pg_class'))
      FROM pg_class AS c WHERE c.relnamespace IN {_ROOM} AND c.relkind <> 'i'
    UNION ALL
    SELECT 'column', c.oid::regclass || '.' || a.attname,
           concat_ws(' | ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                     a.attcompression, a.attstorage, a.attcollation::regcollation, a.attacl::text,
                     pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
      FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE c.relnamespace IN {_ROOM} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind <> 'i'
    UNION ALL
    SELECT 'index', i.indexrelid::regclass::text, concat_ws(' | ', pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class'))
      FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relnamespace IN {_ROOM}
    UNION ALL
    SELECT 'constraint', concat_ws('.', s.conrelid::regclass, s.conname),
           concat_ws(' | ', pg_get_constraintdef(s.oid), s.condeferrable, s.condeferred, s.convalidated, obj_description(s.oid, 'pg_constraint'))
      FROM pg_constraint AS s WHERE s.connamespace IN {_ROOM}
    UNION ALL
    SELECT 'sequence', s.seqrelid::regclass::text,
           concat_ws(' | ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
      FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid WHERE c.relnamespace IN {_ROOM}
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text,
           concat_ws(' | ', CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, p.prokind, p.provolatile, p.proparallel,
                     p.proisstrict, p.prosecdef, p.proconfig::text, p.proacl::text, pg_get_userbyid(p.proowner), obj_description(p.oid, 'pg_proc'))
      FROM pg_proc AS p WHERE p.pronamespace IN {_ROOM}
    UNION ALL
    SELECT 'aggregate', a.aggfnoid::regprocedure::text,
           concat_ws(' | ', a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggtranstype::regtype, a.agginitval)
      FROM pg_aggregate AS a JOIN pg_proc AS p ON p.oid = a.aggfnoid WHERE p.pronamespace IN {_ROOM}
    UNION ALL
    SELECT 'trigger', t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid)
      FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace IN {_ROOM} AND NOT t.tgisinternal
    UNION ALL
    SELECT 'view', c.oid::regclass::text, pg_get_viewdef(c.oid)
      FROM pg_class AS c WHERE c.relnamespace IN {_ROOM} AND c.relkind IN ('v', 'm')
    UNION ALL
    SELECT 'type', t.oid::regtype::text, concat_ws(' | ', t.typtype, t.typbasetype::regtype, t.typnotnull, t.typacl::text, obj_description(t.oid, 'pg_type'))
      FROM pg_type AS t WHERE t.typnamespace IN {_ROOM}
    UNION ALL
    SELECT 'event trigger', e.evtname, concat_ws(' | ', e.evtevent, e.evtfoid::regprocedure, e.evttags::text)
      FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid WHERE p.pronamespace IN {_ROOM}
"""


def catalog(dsn: str) -> list[tuple[str, str, str]]:
    """The rows, sorted; names are written with their schema."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        return sorted(connection.execute(CATALOG.encode()).fetchall())


def rows_of_tables(dsn: str) -> dict[str, list[str]]:
    """Every row of every logged table of pgpeer, as text, by table."""
    query = f"SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relnamespace IN {_ROOM} AND c.relkind = 'r' AND c.relpersistence = 'p'"
    with psycopg.connect(dsn) as connection:
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        names = [row[0] for row in connection.execute(query.encode())]
        return {
            name: sorted(row[0] for row in connection.execute(f"SELECT x::text FROM {name} AS x".encode()))
            for name in names
        }
