-- Capture: three statement triggers with transition tables and one for TRUNCATE, with static SQL per table. They write one
-- journal row per statement and changed-column mask: (op, mask, keys[]), no values, no index, no sequence.

CREATE OR REPLACE FUNCTION peer_internal.mask_expression(relation_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- integer arithmetic inside a 64-bit word is much cheaper than concatenating bits
    SELECT coalesce(string_agg(format('(%s)::bit(64)', word.bits), ' || ' ORDER BY word.number), '(0::bigint)::bit(64)')
      FROM (SELECT c.ordinal / 64 AS number,
                   string_agg(format(CASE WHEN peer_internal.compares_bytewise(c.type)
                                          THEN 'CASE WHEN ROW(o.%1$I)::record OPERATOR(pg_catalog.*<>) ROW(n.%1$I)::record THEN %2$s::bigint ELSE 0 END'
                                          ELSE 'CASE WHEN o.%1$I IS DISTINCT FROM n.%1$I THEN %2$s::bigint ELSE 0 END' END,
                                     c.name, quote_literal((1::bigint << c.ordinal % 64)::text)), E'\n              | ' ORDER BY c.ordinal) AS bits
              FROM peer_internal.relation_column AS c
             WHERE c.relation_id = mask_expression.relation_id AND NOT c.is_key
             GROUP BY c.ordinal / 64) AS word
$$;
COMMENT ON FUNCTION peer_internal.mask_expression(uuid) IS 'SQL text of the changed-column mask of an update (o = old row, n = new row).';

CREATE OR REPLACE FUNCTION peer_internal.journal_keys_max() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 262144
$$;
COMMENT ON FUNCTION peer_internal.journal_keys_max() IS 'How many keys one journal row has at most, so that memory does not grow with a statement.';

CREATE OR REPLACE FUNCTION peer_internal.journal_statement(journal text, few text, changes text, sized text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- The common statement changes few rows and is journaled as it stands. One that changes more than a journal row holds is sorted
    -- into chunks instead of gathered in memory: array_agg knows no other bound than the gigabyte at which it fails.
    SELECT format($body$INSERT INTO %1$s (op, mask, keys) %2$s;
    IF NOT FOUND AND EXISTS (SELECT FROM %4$s AS t OFFSET %5$s / 2) THEN
        INSERT INTO %1$s (op, mask, keys)
        SELECT s.op, s.mask, array_agg(s.key)
          FROM (SELECT d.op, d.mask, d.chunk, d.key
                  FROM (SELECT c.op, c.mask, c.key, (row_number() OVER () - 1) / %5$s AS chunk FROM (%3$s) AS c) AS d
                 ORDER BY d.op, d.mask, d.chunk) AS s
         GROUP BY s.op, s.mask, s.chunk;
    END IF;$body$, journal, few, changes, sized, peer_internal.journal_keys_max())
$$;
COMMENT ON FUNCTION peer_internal.journal_statement(text, text, text, text) IS
    'PL/pgSQL text that journals changes (a query of op, mask, key). few: a query of the journal rows, empty when there are more '
    'than peer_internal.journal_keys_max() changes; sized: what has at least half as many rows as there are changes.';

CREATE OR REPLACE FUNCTION peer_internal.capture_body(r peer_internal.relation, event text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $capture$
DECLARE
    journal text := format('peer_internal.%I', 'journal_' || r.relation_number);
    no_mask text := format('repeat(''0'', %s)::bit(%s)', r.mask_bits, r.mask_bits);
    keys_max text := peer_internal.journal_keys_max();
    source text := CASE event WHEN 'insert' THEN 'n' ELSE 'o' END;
    op text := CASE event WHEN 'insert' THEN 'I' ELSE 'D' END;
    key text := peer_internal.key_value(r, source);
    changes text;
BEGIN
    CASE event
        WHEN 'insert', 'delete' THEN
            RETURN peer_internal.journal_statement(journal,
                format('SELECT %L, %s, array_agg(c.key) FROM (SELECT %s AS key FROM %s LIMIT %s + 1) AS c HAVING count(*) BETWEEN 1 AND %s', op, no_mask, key, source, keys_max, keys_max),
                format('SELECT %L::"char" AS op, %s AS mask, %s AS key FROM %s', op, no_mask, key, source), source);
        WHEN 'truncate' THEN
            -- PostgreSQL fires this trigger for each table that TRUNCATE reaches, partitions too: each tells its own rows
            RETURN format($t$PERFORM peer_internal.require_fresh_snapshot(format('%%I.%%I', TG_TABLE_SCHEMA, TG_TABLE_NAME));
    EXECUTE format(%L, TG_TABLE_SCHEMA, TG_TABLE_NAME);$t$,
                format('INSERT INTO %s (op, mask, keys) SELECT %L, %s, array_agg(s.key) FROM (SELECT d.key, d.chunk FROM ('
                       'SELECT %s AS key, (row_number() OVER () - 1) / %s AS chunk FROM ONLY %%I.%%I AS o) AS d ORDER BY d.chunk) AS s GROUP BY s.chunk',
                       journal, op, no_mask, replace(key, '%', '%%'), keys_max));
        WHEN 'update' THEN
            -- FULL JOIN: cannot become a nested loop from a cached plan, and gives key changes as rows on one side only
            changes := format($u$SELECT u.op, u.mask, u.key
                      FROM (SELECT CASE WHEN %1$s THEN 'D' WHEN %2$s THEN 'I' ELSE 'U' END::"char" AS op,
                                   CASE WHEN %1$s OR %2$s THEN %3$s ELSE %4$s END AS mask,
                                   CASE WHEN %1$s THEN %5$s ELSE %6$s END AS key
                              FROM o FULL JOIN n ON %7$s) AS u
                     WHERE u.op <> 'U' OR u.mask <> %3$s$u$,
                peer_internal.key_list(r.relation_id, 'n.%1$s IS NULL', ' AND '), peer_internal.key_list(r.relation_id, 'o.%1$s IS NULL', ' AND '),
                no_mask, peer_internal.mask_expression(r.relation_id), key, peer_internal.key_value(r, 'n'),
                peer_internal.key_list(r.relation_id, 'n.%1$s = o.%1$s', ' AND '));
            RETURN peer_internal.journal_statement(journal, format($few$
    SELECT g.op, g.mask, g.keys
      FROM (SELECT c.op, c.mask, array_agg(c.key) AS keys, sum(count(*)) OVER () AS key_count
              FROM (%1$s LIMIT %2$s + 1) AS c
             GROUP BY c.op, c.mask) AS g
     WHERE g.key_count <= %2$s$few$, changes, keys_max), changes, 'n');
    END CASE;
END
$capture$;
COMMENT ON FUNCTION peer_internal.capture_body(peer_internal.relation, text) IS 'PL/pgSQL text that journals what an insert, update, delete or truncate changed (o = old rows, n = new rows).';

CREATE OR REPLACE FUNCTION peer_internal.install_triggers(relation_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $install$
DECLARE
    r peer_internal.relation;
    journal text;
    key_type text;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = install_triggers.relation_id;
    journal := format('peer_internal.%I', 'journal_' || r.relation_number);
    IF r.key_count = 1 THEN
        key_type := peer_internal.key_list(r.relation_id, '%3$s', '');
    ELSE
        key_type := format('peer_internal.%I', 'key_' || r.relation_number);
        EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', key_type);
        EXECUTE format('CREATE TYPE %s AS (%s)', key_type, peer_internal.key_list(r.relation_id, 'k%2$s %3$s', ', '));
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %s', journal);
    EXECUTE format('CREATE TABLE %s (op "char" NOT NULL, mask bit(%s) NOT NULL, keys %s[] NOT NULL)', journal, r.mask_bits, key_type);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN keys SET STORAGE EXTERNAL', journal);
    EXECUTE format('COMMENT ON TABLE %s IS %L', journal, 'Uncommitted changes of ' || r.relation::text || ': one row per statement and changed-column mask.');
    PERFORM peer_internal.adopt_shape(r, false);
    PERFORM peer_internal.attach_triggers(r, m.part) FROM peer_internal.table_parts(r.relation) AS m(part);
    IF peer_internal.is_partitioned(r.relation) THEN
        INSERT INTO peer_internal.relation_part (relation_id, part)
        SELECT r.relation_id, m.part FROM peer_internal.table_parts(r.relation) AS m(part) ON CONFLICT DO NOTHING;
    END IF;
END
$install$;
COMMENT ON FUNCTION peer_internal.install_triggers(uuid) IS 'Creates the journal, the trigger functions and the triggers of a tracked relation and its partitions. Takes SHARE ROW EXCLUSIVE on them.';

CREATE OR REPLACE FUNCTION peer_internal.capture_source(r peer_internal.relation, event text) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $source$
DECLARE
    wake text;
    guard text;
    body text;
BEGIN
    -- A transaction that has notified cannot be prepared. Where two-phase commit is allowed at all, the worker has to look by itself.
    SELECT CASE b.commit_mode WHEN 'auto' THEN
        E'\n    IF pg_catalog.current_setting(''max_prepared_transactions'') = ''0'' AND NOT (SELECT w.awake FROM peer_internal.worker AS w) THEN\n        PERFORM pg_catalog.pg_notify(''pgpeer_journal'', '''');\n    END IF;'
        ELSE '' END
      INTO STRICT wake FROM peer_internal.bundle AS b WHERE b.bundle_id = r.bundle_id;
    guard := CASE WHEN peer_internal.is_partitioned(r.relation)
        THEN format(E'IF NOT peer_internal.is_part(TG_RELID, %s) THEN\n        RETURN NULL;\n    END IF;\n    ', r.relation_number) ELSE '' END;
    body := CASE WHEN r.suspended IS NULL THEN peer_internal.fit_check(r, event) || guard || peer_internal.capture_body(r, event) || wake
                 ELSE guard || format('PERFORM peer_internal.miss_write(%L);', r.relation_id) END;
    -- a merge is nobody's write, also where somebody has made the trigger one that fires always
    RETURN format(E'\nBEGIN\n    IF pg_catalog.current_setting(''session_replication_role'') = ''replica'' THEN\n        RETURN NULL;\n    END IF;\n    %s\n    RETURN NULL;\nEND\n', body);
END
$source$;
COMMENT ON FUNCTION peer_internal.capture_source(peer_internal.relation, text) IS 'The whole text of the trigger function that captures an insert, update, delete or truncate of a relation.';

CREATE OR REPLACE FUNCTION peer_internal.write_capture_functions(r peer_internal.relation) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $write$
DECLARE
    event text;
    function_name text;
BEGIN
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
        function_name := format('peer_internal.%I', 'capture_' || event || '_' || r.relation_number);
        -- SECURITY DEFINER: whoever may write the table need not know the journal
        EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER '
                       'SET search_path = pg_catalog, pg_temp SET row_security = off AS %L',
                       function_name, peer_internal.capture_source(r, event));
        EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', function_name);
        EXECUTE format('COMMENT ON FUNCTION %s() IS %L', function_name, format('Captures %s on %s for pgpeer.', upper(event), r.relation));
    END LOOP;
END
$write$;
COMMENT ON FUNCTION peer_internal.write_capture_functions(peer_internal.relation) IS 'Creates the trigger functions of a relation, or writes them anew. No lock on the table.';

CREATE OR REPLACE FUNCTION peer_internal.attach_triggers(r peer_internal.relation, part regclass) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
DECLARE
    event text;
BEGIN
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'zz_pgpeer_' || event, part);
        EXECUTE format('CREATE TRIGGER %I %s %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION peer_internal.%I()', 'zz_pgpeer_' || event,
            CASE event WHEN 'truncate' THEN 'BEFORE' ELSE 'AFTER' END, upper(event), part,
            CASE event WHEN 'insert' THEN 'REFERENCING NEW TABLE AS n' WHEN 'delete' THEN 'REFERENCING OLD TABLE AS o'
                       WHEN 'update' THEN 'REFERENCING OLD TABLE AS o NEW TABLE AS n' ELSE '' END,
            'capture_' || event || '_' || r.relation_number);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.attach_triggers(peer_internal.relation, regclass) IS 'Puts the capture triggers of a relation on its table, or on one of its partitions.';

CREATE OR REPLACE FUNCTION peer_internal.require_fresh_snapshot(relation text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- TRUNCATE removes rows that a snapshot older than its lock cannot see: they could not be told to anybody
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION '% cannot be truncated in this transaction', relation USING ERRCODE = 'PGT15',
            DETAIL = format('The table is tracked, and the transaction is %s: its snapshot may be older than rows that TRUNCATE would remove.',
                            upper(current_setting('transaction_isolation'))),
            HINT = format('Run TRUNCATE in a READ COMMITTED transaction, or DELETE FROM %s.', relation);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.require_fresh_snapshot(text) IS 'Refuses TRUNCATE of a tracked table (PGT15) where the rows that it removes cannot all be seen.';

CREATE OR REPLACE FUNCTION peer_internal.key_value(r peer_internal.relation, alias text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN r.key_count = 1 THEN peer_internal.key_list(r.relation_id, alias || '.%1$s', '')
                ELSE format('ROW(%s)::peer_internal.%I', peer_internal.key_list(r.relation_id, alias || '.%1$s', ', '), 'key_' || r.relation_number) END
$$;
COMMENT ON FUNCTION peer_internal.key_value(peer_internal.relation, text) IS 'SQL text of the key of a row as one value: the column itself, or the composite of several.';

CREATE OR REPLACE FUNCTION peer_internal.remove_triggers(relation_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
DECLARE
    r peer_internal.relation;
    event text;
    statement text;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = remove_triggers.relation_id;
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
        -- wherever they are: also on a partition that was detached
        FOR statement IN
            SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
              FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
             WHERE p.pronamespace = 'peer_internal'::regnamespace AND p.proname = 'capture_' || event || '_' || r.relation_number
        LOOP
            EXECUTE statement;
        END LOOP;
        EXECUTE format('DROP FUNCTION IF EXISTS peer_internal.%I()', 'capture_' || event || '_' || r.relation_number);
    END LOOP;
    DELETE FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id;
    EXECUTE format('DROP TABLE IF EXISTS peer_internal.%I', 'journal_' || r.relation_number);
    EXECUTE format('DROP TYPE IF EXISTS peer_internal.%I', 'key_' || r.relation_number);
END
$$;
COMMENT ON FUNCTION peer_internal.remove_triggers(uuid) IS 'Removes what peer_internal.install_triggers made. The table and its rows stay.';
