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

CREATE OR REPLACE FUNCTION peer_internal.install_triggers(relation_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $install$
DECLARE
    r peer_internal.relation;
    journal text;
    key_type text;
    no_mask text;
    wake text;
    event text;
    body text;
    function_name text;
    referencing text;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = install_triggers.relation_id;
    journal := format('peer_internal.%I', 'journal_' || r.relation_number);
    no_mask := format('repeat(''0'', %s)::bit(%s)', r.mask_bits, r.mask_bits);
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

    SELECT CASE b.commit_mode WHEN 'auto' THEN
        E'\n    IF NOT (SELECT w.awake FROM peer_internal.worker AS w) THEN\n        PERFORM pg_catalog.pg_notify(''pgpeer_journal'', '''');\n    END IF;'
        ELSE '' END
      INTO STRICT wake FROM peer_internal.bundle AS b WHERE b.bundle_id = r.bundle_id;

    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
        body := CASE event
            WHEN 'insert' THEN format('INSERT INTO %s (op, mask, keys) SELECT ''I'', %s, array_agg(%s) FROM n HAVING count(*) > 0;',
                journal, no_mask, peer_internal.key_value(r, 'n'))
            WHEN 'delete' THEN format('INSERT INTO %s (op, mask, keys) SELECT ''D'', %s, array_agg(%s) FROM o HAVING count(*) > 0;',
                journal, no_mask, peer_internal.key_value(r, 'o'))
            WHEN 'truncate' THEN format(E'PERFORM peer_internal.require_fresh_snapshot(%L);\n    '
                'INSERT INTO %s (op, mask, keys) SELECT ''D'', %s, array_agg(%s) FROM %s AS o HAVING count(*) > 0;', r.relation,
                journal, no_mask, peer_internal.key_value(r, 'o'), r.relation)
            -- FULL JOIN: cannot become a nested loop from a cached plan, and gives key changes as rows on one side only
            ELSE format($u$INSERT INTO %1$s (op, mask, keys)
    SELECT c.op, c.mask, array_agg(c.key)
      FROM (SELECT CASE WHEN %2$s THEN 'D' WHEN %3$s THEN 'I' ELSE 'U' END::"char" AS op,
                   CASE WHEN %2$s OR %3$s THEN %4$s ELSE %5$s END AS mask,
                   CASE WHEN %2$s THEN %6$s ELSE %7$s END AS key
              FROM o FULL JOIN n ON %8$s) AS c
     WHERE c.op <> 'U' OR c.mask <> %4$s
     GROUP BY c.op, c.mask;$u$,
                journal,
                peer_internal.key_list(r.relation_id, 'n.%1$s IS NULL', ' AND '), peer_internal.key_list(r.relation_id, 'o.%1$s IS NULL', ' AND '),
                no_mask, peer_internal.mask_expression(r.relation_id), peer_internal.key_value(r, 'o'), peer_internal.key_value(r, 'n'),
                peer_internal.key_list(r.relation_id, 'n.%1$s = o.%1$s', ' AND '))
            END;
        function_name := format('peer_internal.%I', 'capture_' || event || '_' || r.relation_number);
        referencing := CASE event WHEN 'insert' THEN 'REFERENCING NEW TABLE AS n' WHEN 'delete' THEN 'REFERENCING OLD TABLE AS o'
                                  WHEN 'update' THEN 'REFERENCING OLD TABLE AS o NEW TABLE AS n' ELSE '' END;
        -- SECURITY DEFINER: whoever may write the table need not know the journal
        EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER '
                       'SET search_path = pg_catalog, pg_temp SET row_security = off AS %L',
                       function_name, format(E'\nBEGIN\n    %s%s\n    RETURN NULL;\nEND\n', body, wake));
        EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', function_name);
        EXECUTE format('COMMENT ON FUNCTION %s() IS %L', function_name, format('Captures %s on %s for pgpeer.', upper(event), r.relation));
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'zz_pgpeer_' || event, r.relation);
        EXECUTE format('CREATE TRIGGER %I %s %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s()', 'zz_pgpeer_' || event,
                       CASE event WHEN 'truncate' THEN 'BEFORE' ELSE 'AFTER' END, upper(event), r.relation, referencing, function_name);
    END LOOP;
END
$install$;
COMMENT ON FUNCTION peer_internal.install_triggers(uuid) IS 'Creates the journal, the trigger functions and the triggers of a tracked relation. Takes SHARE ROW EXCLUSIVE on the table.';

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
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = remove_triggers.relation_id;
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
        IF r.relation IS NOT NULL AND to_regclass(r.relation::text) IS NOT NULL THEN
            EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'zz_pgpeer_' || event, r.relation);
        END IF;
        EXECUTE format('DROP FUNCTION IF EXISTS peer_internal.%I()', 'capture_' || event || '_' || r.relation_number);
    END LOOP;
    EXECUTE format('DROP TABLE IF EXISTS peer_internal.%I', 'journal_' || r.relation_number);
    EXECUTE format('DROP TYPE IF EXISTS peer_internal.%I', 'key_' || r.relation_number);
END
$$;
COMMENT ON FUNCTION peer_internal.remove_triggers(uuid) IS 'Removes what peer_internal.install_triggers made. The table and its rows stay.';
