-- Tables that were changed under pgpeer: what keeps their writes from being captured, and how capture takes them up again.

CREATE OR REPLACE FUNCTION peer_internal.uncaptured_parts(relation_id uuid) RETURNS TABLE (part regclass, event text, is_disabled boolean)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.part, e.event, t.oid IS NOT NULL
      FROM peer_internal.relation AS r
     CROSS JOIN LATERAL peer_internal.table_parts(r.relation) AS m(part)
     CROSS JOIN unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS e(event)
      LEFT JOIN pg_trigger AS t ON t.tgrelid = m.part AND t.tgname = 'zz_pgpeer_' || e.event
     WHERE r.relation_id = uncaptured_parts.relation_id AND (t.oid IS NULL OR t.tgenabled NOT IN ('O', 'A'))
       -- a partition that is new is followed by the next commit
       AND (NOT peer_internal.is_partitioned(r.relation) OR EXISTS (SELECT FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id AND p.part = m.part))
       AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = m.part)
$$;
COMMENT ON FUNCTION peer_internal.uncaptured_parts(uuid) IS 'Capture triggers of a tracked table and its partitions that are missing or do not fire.';

CREATE OR REPLACE FUNCTION peer_internal.capture_gaps() RETURNS TABLE (kind text, bundle text, relation regclass, detail text, remedy text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    owner text := (SELECT n.nspowner::regrole::text FROM pg_namespace AS n WHERE n.nspname = 'peer_internal');
    may_merge boolean := true;
    is_old boolean := current_setting('server_version_num')::int < 150000;
BEGIN
    FOR r IN SELECT x.relation_id, x.relation AS own, x.schema_name, x.table_name, b.name AS bundle_name, c.oid IS NOT NULL AS is_there, c.relkind
               FROM peer_internal.relation AS x JOIN peer_internal.bundle AS b USING (bundle_id) LEFT JOIN pg_class AS c ON c.oid = x.relation
              WHERE x.is_tracked ORDER BY b.name, x.schema_name, x.table_name LOOP
        IF NOT r.is_there THEN
            RETURN QUERY SELECT 'capture_gap', r.bundle_name, NULL::regclass, format('The table %I.%I of the bundle has been dropped here.', r.schema_name, r.table_name),
                format('If that was meant: SELECT peer.untrack(%s::regclass);', r.own::oid);
            CONTINUE;
        END IF;
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own, format('Changes of %s are not captured, and those of others are not merged into it: %s.', r.own, d.reason),
            CASE WHEN peer_internal.shape_difference(x, true) IS NULL
                 THEN format('SELECT peer.recapture(%L); makes the rows count for all members as they are here; where a type has another length or scale now, change it alike at every member, and do so at each.', r.own)
                 ELSE format('Make it as it was (ALTER TABLE %s …): what was written meanwhile is taken up then. Or: SELECT peer.untrack(%L);', r.own, r.own) END
          FROM peer_internal.relation AS x CROSS JOIN LATERAL peer_internal.shape_difference(x, false) AS d(reason)
         WHERE x.relation_id = r.relation_id AND d.reason IS NOT NULL;
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own,
            format('The bundle does not have %s %s of %s: the values stay here.', CASE count(*) WHEN 1 THEN 'the column' ELSE 'the columns' END,
                   string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), r.own),
            'Nothing is to be done if that is meant. A bundle that shall have it: untrack the table and track it in another one.'
          FROM pg_attribute AS a
         WHERE a.attrelid = r.own AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
           AND a.attname NOT IN (SELECT s.own_name FROM peer_internal.relation AS x CROSS JOIN LATERAL peer_internal.shape_columns(x, true) AS s
                                  WHERE x.relation_id = r.relation_id AND s.own_name IS NOT NULL)
        HAVING count(*) > 0;
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own, format('%s has become UNLOGGED: a crash of the server would empty it here, and here only.', r.own),
            format('ALTER TABLE %s SET LOGGED;', r.own)
          FROM pg_class AS c WHERE c.oid = r.own AND c.relpersistence = 'u';
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own,
            format('Changes of %s are not captured: its trigger for %s %s.', u.part, upper(string_agg(u.event, ', ' ORDER BY u.event)),
                   CASE WHEN bool_and(u.is_disabled) THEN 'is disabled' ELSE 'is missing' END),
            format('SELECT peer.recapture(%L); It takes up what was changed meanwhile.', r.own)
          FROM peer_internal.uncaptured_parts(r.relation_id) AS u GROUP BY u.part;
        -- what only looks on, or writes elsewhere, may be meant; these can change or drop the rows of a merge
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own,
            format('On %s %s also when commits of others are merged. What is changed then is not captured, and members come to differ.', r.own, string_agg(b.what, ', ' ORDER BY b.what)),
            string_agg(b.remedy, ' ' ORDER BY b.what)
          FROM (SELECT DISTINCT format('the trigger %I fires', t.tgname) AS what, format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.tgname) AS remedy
                  FROM pg_trigger AS t JOIN peer_internal.table_parts(r.own) AS m(part) ON m.part = t.tgrelid
                 WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND t.tgtype & 3 = 3
                 UNION
                SELECT format('the rule %I acts', w.rulename), format('ALTER TABLE %s ENABLE RULE %I;', w.ev_class::regclass, w.rulename)
                  FROM pg_rewrite AS w JOIN peer_internal.table_parts(r.own) AS m(part) ON m.part = w.ev_class
                 WHERE w.ev_enabled IN ('A', 'R') AND w.ev_type <> '1') AS b
        HAVING count(*) > 0;
        RETURN QUERY SELECT 'capture_gap', r.bundle_name, r.own,
            CASE WHEN i.inhrelid <> r.own THEN format('%s inherits from %s: its rows are read as rows of %s, and changes of them are not captured.', i.inhrelid::regclass, r.own, r.own)
                 ELSE format('%s has become a part of %s: changes made through that table are not captured.', r.own, i.inhparent::regclass) END,
            CASE WHEN r.own = i.inhrelid AND (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = i.inhrelid)
                 THEN format('ALTER TABLE %s DETACH PARTITION %s; or untrack it and track %s.', i.inhparent::regclass, r.own, i.inhparent::regclass)
                 ELSE format('ALTER TABLE %s NO INHERIT %s;', i.inhrelid::regclass, i.inhparent::regclass) END
          FROM pg_inherits AS i WHERE i.inhrelid = r.own OR (i.inhparent = r.own AND r.relkind = 'r');
    END LOOP;
    IF NOT is_old THEN
        EXECUTE 'SELECT has_parameter_privilege($1::regrole, ''session_replication_role'', ''SET'')' INTO may_merge USING owner;
    ELSIF quote_ident(CURRENT_USER) = owner THEN
        -- before version 15 nobody can tell without trying: providers have rules of their own
        BEGIN
            PERFORM set_config('session_replication_role', current_setting('session_replication_role'), true);
        EXCEPTION WHEN insufficient_privilege THEN
            may_merge := false;
        END;
    END IF;
    IF NOT may_merge THEN
        RETURN QUERY SELECT 'missing_right', NULL::text, NULL::regclass,
            format('The role %s may not set session_replication_role: commits of other peers are not merged. Capture, commits and sending go on.', owner),
            format(CASE WHEN is_old THEN 'ALTER ROLE %s SUPERUSER; or what the provider offers instead. From version 15 on: GRANT SET ON PARAMETER session_replication_role TO %s;'
                        ELSE 'GRANT SET ON PARAMETER session_replication_role TO %s;' END, owner, owner);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.capture_gaps() IS 'What keeps changes here from being captured, or those of others from being merged; for peer.problem.';

CREATE OR REPLACE FUNCTION peer_internal.recapture(relation regclass) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r peer_internal.relation;
    difference text;
BEGIN
    SELECT x.* INTO r FROM peer_internal.relation AS x WHERE x.relation = recapture.relation AND x.is_tracked;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not tracked', relation USING ERRCODE = 'PGT14', HINT = 'The command  pgpeer bundle list  shows what is tracked.';
    END IF;
    PERFORM peer_internal.enter_bundle(r.bundle_id);
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    difference := peer_internal.shape_difference(r, true);
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION 'table % is no longer the one of the bundle', relation USING ERRCODE = 'PGT17', DETAIL = upper(left(difference, 1)) || substr(difference, 2) || '.',
            HINT = 'Make it as it was (ALTER TABLE), or SELECT peer.untrack(…) it.';
    END IF;
    PERFORM peer_internal.adopt_shape(r, true);
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = r.relation_id;
    PERFORM peer_internal.attach_triggers(r, m.part) FROM peer_internal.table_parts(relation) AS m(part);
    PERFORM peer_internal.compare_with_head(r, NULL);
    DELETE FROM peer_internal.missed_write AS m WHERE m.relation_id = r.relation_id;
    IF peer_internal.is_partitioned(relation) THEN
        DELETE FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id;
        INSERT INTO peer_internal.relation_part (relation_id, part) SELECT r.relation_id, m.part FROM peer_internal.table_parts(relation) AS m(part);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.recapture(regclass) IS
    'For a table whose rows were changed with triggers off: puts the capture triggers back, and what differs from the merged commits becomes uncommitted '
    'changes. Reads the whole table and its history. Locks the table against writes until the transaction ends.';
