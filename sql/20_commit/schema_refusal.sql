-- Why a table cannot be tracked. Each kind of refusal has its own SQLSTATE; a table may have several, and all are told at once.

CREATE OR REPLACE FUNCTION peer_internal.is_partitioned(relation regclass) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = relation AND c.relkind = 'p')
$$;
COMMENT ON FUNCTION peer_internal.is_partitioned(regclass) IS 'Whether a table is partitioned.';

CREATE OR REPLACE FUNCTION peer_internal.table_parts(relation regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- read from the catalog: pg_partition_tree would lock every partition
    WITH RECURSIVE member(part) AS (
        SELECT table_parts.relation::oid
        UNION ALL
        SELECT i.inhrelid FROM member AS m JOIN pg_inherits AS i ON i.inhparent = m.part
         WHERE peer_internal.is_partitioned(table_parts.relation) AND NOT i.inhdetachpending)
    SELECT m.part::regclass FROM member AS m
$$;
COMMENT ON FUNCTION peer_internal.table_parts(regclass) IS 'A table and, when it is partitioned, its partitions of every level.';

CREATE OR REPLACE FUNCTION peer_internal.contained_types(type oid, modifier int)
RETURNS TABLE(contained oid, contained_modifier int)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE part(oid, modifier) AS (
        SELECT contained_types.type, contained_types.modifier
        UNION
        SELECT inner_type.oid, inner_type.modifier
          FROM part AS p
          JOIN pg_type AS t ON t.oid = p.oid
         CROSS JOIN LATERAL (
               SELECT t.typbasetype, CASE WHEN t.typtypmod = -1 THEN p.modifier ELSE t.typtypmod END WHERE t.typtype = 'd'
               UNION ALL
               SELECT t.typelem, p.modifier WHERE EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
               UNION ALL
               SELECT r.rngsubtype, -1 FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
               UNION ALL
               SELECT a.atttypid, a.atttypmod FROM pg_attribute AS a
                WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped)
               AS inner_type(oid, modifier))
    SELECT p.oid, p.modifier FROM part AS p
$$;
COMMENT ON FUNCTION peer_internal.contained_types(oid, int) IS
    'A type and every type inside it: base of a domain, element of an array or range, fields of a composite.';

CREATE OR REPLACE FUNCTION peer_internal.key_type_problem(type oid, modifier int, own_collation oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- a key is known by its text on the way between peers: values that are equal must have one text
    SELECT coalesce(
        (SELECT min(CASE
             WHEN p.contained IN ('float4'::regtype, 'float8'::regtype)
             THEN 'a floating-point number has more than one text for one value (0 and -0)'
             WHEN p.contained = 'numeric'::regtype AND p.contained_modifier = -1
             THEN 'a numeric without scale has more than one text for one value (1.0 and 1.00)'
             WHEN p.contained = 'bpchar'::regtype AND p.contained_modifier = -1
             THEN 'a bpchar without length has more than one text for one value'
             WHEN t.typtype = 'c' THEN 'a composite value has more than one text for one value, and so may its fields'
             WHEN EXISTS (SELECT FROM pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
             THEN 'an array has more than one text for one value (a lower bound may be written)'
             WHEN p.contained = 'interval'::regtype THEN 'an interval has more than one text for one value (1 day and 24:00:00)'
             WHEN p.contained = 'jsonb'::regtype THEN 'a jsonb has more than one text for one value (1.0 and 1.00)'
             WHEN t.typtype = 'b' AND n.nspname <> 'pg_catalog' AND t.typelem = 0
             THEN format('of the type %I nobody knows whether equal values have one text', t.typname) END)
           FROM peer_internal.contained_types(key_type_problem.type, key_type_problem.modifier) AS p
           JOIN pg_type AS t ON t.oid = p.contained
           JOIN pg_namespace AS n ON n.oid = t.typnamespace),
        (SELECT format('its collation %I calls different texts equal', c.collname)
           FROM pg_collation AS c WHERE c.oid = key_type_problem.own_collation AND NOT c.collisdeterministic))
$$;
COMMENT ON FUNCTION peer_internal.key_type_problem(oid, int, oid) IS
    'Why a column of this type and collation cannot be part of a key, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.refusal(relation regclass)
RETURNS TABLE(sqlstate text, message text, detail text, hint text)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    title text := relation::text;
    c record;
    key record;
BEGIN
    SELECT x.relkind, x.relpersistence, x.relispartition, x.relhassubclass, n.nspname, x.oid
      INTO c
      FROM pg_class AS x
      JOIN pg_namespace AS n ON n.oid = x.relnamespace
     WHERE x.oid = relation;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'PGT02', format('there is no relation %s', title), format('No relation has the object id %s.', relation::oid),
                            'Name an existing table.';
        RETURN;
    ELSIF peer_internal.is_reserved_schema(c.nspname) AND c.relpersistence <> 't' THEN
        RETURN QUERY SELECT 'PGT07', format('%s cannot be tracked: it belongs to PostgreSQL or to pgpeer', title),
                            format('It is in the schema %I.', c.nspname), 'Track tables of your own schemas.';
        RETURN;
    ELSIF c.relkind NOT IN ('r', 'p') THEN
        RETURN QUERY SELECT 'PGT02', format('%s cannot be tracked: it is no ordinary table', title),
            format('It is %s.', CASE c.relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
                WHEN 'S' THEN 'a sequence' WHEN 'c' THEN 'a composite type' ELSE 'an index' END),
            'Track the table that holds the rows.';
        RETURN;
    END IF;
    IF c.relpersistence <> 'p' THEN
        RETURN QUERY SELECT 'PGT03', format('%s cannot be tracked: its rows are not kept safely', title),
            CASE c.relpersistence WHEN 't' THEN 'It is a temporary table: it ends with its session.'
                                  ELSE 'It is an unlogged table: a crash empties it.' END,
            CASE c.relpersistence WHEN 't' THEN 'Create it as an ordinary table.'
                                  ELSE format('ALTER TABLE %s SET LOGGED;', title) END;
    END IF;
    RETURN QUERY
        SELECT 'PGT03', format('%s cannot be tracked: the rows of its partition %s are not kept safely', title, p.part),
               'It is an unlogged table: a crash empties it.', format('ALTER TABLE %s SET LOGGED;', p.part)
          FROM peer_internal.table_parts(relation) AS p(part)
          JOIN pg_class AS x ON x.oid = p.part
         WHERE c.relkind = 'p' AND c.relpersistence = 'p' AND x.relpersistence <> 'p'
         ORDER BY p.part
         LIMIT 1;
    RETURN QUERY
        SELECT 'PGT04', CASE WHEN c.relispartition THEN format('%s cannot be tracked: it is a partition', title)
                             ELSE format('%s cannot be tracked: it is part of an inheritance tree', title) END,
               CASE WHEN c.relispartition THEN format('It is a partition of %s, and rows reach it through that table.', i.inhparent::regclass)
                    WHEN i.inhrelid = c.oid THEN format('It inherits from %s, and statements on that table reach its rows.', i.inhparent::regclass)
                    ELSE format('%s inherits from it: one key may stand in both, and statements on either reach rows of the other.', i.inhrelid::regclass) END,
               CASE WHEN c.relispartition THEN format('Track %s, or take the partition out: ALTER TABLE %s DETACH PARTITION %s;',
                                                      (SELECT a.relid FROM pg_partition_ancestors(relation) AS a
                                                        ORDER BY (SELECT count(*) FROM pg_partition_ancestors(a.relid)) LIMIT 1), i.inhparent::regclass, title)
                    ELSE format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
          FROM pg_inherits AS i
         WHERE i.inhrelid = c.oid OR (i.inhparent = c.oid AND c.relkind = 'r')
         ORDER BY i.inhparent, i.inhrelid
         LIMIT 1;
    RETURN QUERY
        SELECT 'PGT05', format('%s cannot be tracked: values of column %I mean something in this database only', title, a.attname),
               format('Its type is %s.', format_type(a.atttypid, a.atttypmod)),
               format('Use another type, for example: ALTER TABLE %s ALTER COLUMN %I TYPE %s;', title, a.attname,
                      CASE WHEN a.atttypid IN ('oid'::regtype, 'xid'::regtype, 'cid'::regtype)
                           THEN 'bigint USING ' || quote_ident(a.attname) || '::text::bigint'
                           ELSE 'text' END)
          FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
           AND EXISTS (SELECT FROM peer_internal.contained_types(a.atttypid, a.atttypmod) AS t
                        WHERE peer_internal.is_local_type(t.contained))
         ORDER BY a.attnum;
    SELECT k.conname, k.conkey, k.condeferrable, coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AS period
      INTO key
      FROM pg_constraint AS k WHERE k.conrelid = relation AND k.contype = 'p';
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'PGT01', format('%s cannot be tracked: it has no primary key', title),
            'Rows are known between peers by their primary key.',
            coalesce((SELECT format('ALTER TABLE %s ADD PRIMARY KEY (%s);', title, string_agg(quote_ident(a.attname), ', ' ORDER BY n.place))
                        FROM (SELECT i.indkey, i.indnkeyatts FROM pg_index AS i
                               WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
                               ORDER BY i.indnkeyatts, i.indexrelid LIMIT 1) AS u
                       CROSS JOIN unnest((u.indkey::int2[])[0:u.indnkeyatts - 1]) WITH ORDINALITY AS n(number, place)
                        JOIN pg_attribute AS a ON a.attrelid = relation AND a.attnum = n.number
                      HAVING count(*) > 0),
                     format('ALTER TABLE %s ADD PRIMARY KEY (…); or, if no column tells the rows apart: '
                            'ALTER TABLE %s ADD COLUMN id uuid DEFAULT gen_random_uuid() PRIMARY KEY;', title, title));
        RETURN;
    ELSIF key.condeferrable OR key.period THEN
        RETURN QUERY SELECT 'PGT06', format('%s cannot be tracked: its primary key cannot decide ON CONFLICT', title),
            format('The constraint %I is %s.', key.conname, CASE WHEN key.period THEN 'WITHOUT OVERLAPS' ELSE 'DEFERRABLE' END),
            format('ALTER TABLE %s DROP CONSTRAINT %I, ADD PRIMARY KEY (%s);', title, key.conname,
                   peer_internal.column_names_sql(peer_internal.column_list(relation, key.conkey)));
    END IF;
    RETURN QUERY
        SELECT 'PGT08', format('%s cannot be tracked: column %I is not fit to be part of its key', title, a.attname),
               format('Its type is %s; %s.', format_type(a.atttypid, a.atttypmod),
                      peer_internal.key_type_problem(a.atttypid, a.atttypmod, a.attcollation)),
               CASE WHEN peer_internal.key_type_problem(a.atttypid, a.atttypmod, 0) IS NULL
                    THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE %s COLLATE "C";', title, a.attname, format_type(a.atttypid, a.atttypmod))
                    ELSE 'Use a key of integer, uuid, text, or numeric with a scale, for example: '
                         || format('ALTER TABLE %s ALTER COLUMN %I TYPE %s;', title, a.attname,
                                   CASE WHEN a.atttypid = 'numeric'::regtype THEN 'numeric(20,0)' ELSE 'text' END) END
          FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attnum = ANY (key.conkey)
           AND peer_internal.key_type_problem(a.atttypid, a.atttypmod, a.attcollation) IS NOT NULL
         ORDER BY array_position(key.conkey, a.attnum);
    RETURN QUERY
        SELECT 'PGT09', format('%s cannot be tracked: its key column %I is generated', title, a.attname),
               'Generated values do not travel, and a row without its key cannot be told from others.',
               format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION;', title, a.attname)
          FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attnum = ANY (key.conkey) AND a.attgenerated <> ''
         ORDER BY array_position(key.conkey, a.attnum);
    RETURN QUERY
        SELECT 'PGT16', format('%s cannot be tracked: its constraint %I has never been checked against all rows', title, k.conname),
               'It is NOT VALID: rows that stand here could not stand at a peer, and their commit would be held there.',
               format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', title, k.conname)
          FROM pg_constraint AS k
         WHERE k.conrelid = relation AND NOT k.convalidated AND (to_jsonb(k) ->> 'conenforced')::boolean IS NOT FALSE
         ORDER BY k.conname COLLATE "C";
END
$$;
COMMENT ON FUNCTION peer_internal.refusal(regclass) IS
    'Every reason why this relation cannot be tracked, with SQLSTATE and remedy; no row when it can. PGT01 no primary key, PGT02 no '
    'table, PGT03 temporary or unlogged, PGT04 inheritance or a single partition, PGT05 column type that means something in one database '
    'only, PGT06 primary key that cannot decide ON CONFLICT, PGT07 schema of PostgreSQL or pgpeer, PGT08 key column whose equal values '
    'may be written differently, PGT09 generated key column, PGT16 constraint that is NOT VALID.';

REVOKE ALL ON FUNCTION peer_internal.is_partitioned(regclass), peer_internal.table_parts(regclass), peer_internal.contained_types(oid, int), peer_internal.key_type_problem(oid, int, oid),
    peer_internal.refusal(regclass) FROM PUBLIC;
