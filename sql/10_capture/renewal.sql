-- What an earlier version has generated and stored for tracked tables, written anew by this one after an upgrade: the statements of
-- seals, and the trigger functions of capture. No lock on the tables: whoever writes them goes on.

CREATE OR REPLACE FUNCTION peer_internal.is_current(r peer_internal.relation) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.fold_sql = peer_internal.fold_statement(r) AND r.seal_sql = peer_internal.section_statement(r)
       AND NOT EXISTS (SELECT FROM unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS e(event)
                         LEFT JOIN pg_proc AS p ON p.pronamespace = 'peer_internal'::regnamespace AND p.proname = 'capture_' || e.event || '_' || r.relation_number
                        WHERE p.prosrc IS DISTINCT FROM peer_internal.capture_source(r, e.event) OR NOT p.prosecdef
                           OR p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp', 'row_security=off'])
$$;
COMMENT ON FUNCTION peer_internal.is_current(peer_internal.relation) IS 'Whether the SQL that is stored for a tracked table is what this version generates.';

CREATE OR REPLACE FUNCTION peer_internal.own_captures(r peer_internal.relation) RETURNS TABLE (capture regprocedure, is_of_extension boolean)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure, EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
      FROM unnest(ARRAY['insert', 'update', 'delete', 'truncate']) AS e(event)
      JOIN pg_proc AS p ON p.pronamespace = 'peer_internal'::regnamespace AND p.proname = 'capture_' || e.event || '_' || r.relation_number
$$;
COMMENT ON FUNCTION peer_internal.own_captures(peer_internal.relation) IS 'The trigger functions of a relation, and whether they belong to an extension, which they do only while it replaces them.';

CREATE OR REPLACE FUNCTION peer_internal.rebuild_relation(r peer_internal.relation) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_extension boolean := EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pgpeer');
    part regprocedure;
BEGIN
    UPDATE peer_internal.relation AS x SET fold_sql = peer_internal.fold_statement(r), seal_sql = peer_internal.section_statement(r) WHERE x.relation_id = r.relation_id;
    IF is_extension THEN
        -- the script of an extension may replace what belongs to it and nothing else
        FOR part IN SELECT c.capture FROM peer_internal.own_captures(r) AS c WHERE NOT c.is_of_extension LOOP
            EXECUTE format('ALTER EXTENSION pgpeer ADD FUNCTION %s', part);
        END LOOP;
    END IF;
    PERFORM peer_internal.write_capture_functions(r);
    IF is_extension THEN
        -- dumps hold them as they are, like the journals
        FOR part IN SELECT c.capture FROM peer_internal.own_captures(r) AS c WHERE c.is_of_extension LOOP
            EXECUTE format('ALTER EXTENSION pgpeer DROP FUNCTION %s', part);
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.rebuild_relation(peer_internal.relation) IS 'Writes the SQL that is stored for one tracked table anew.';

CREATE OR REPLACE FUNCTION peer_internal.rebuild_tracked() RETURNS int
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r peer_internal.relation;
    done int := 0;
BEGIN
    FOR r IN SELECT x.* FROM peer_internal.relation AS x JOIN pg_class AS c ON c.oid = x.relation WHERE x.is_tracked ORDER BY x.bundle_id, x.relation_number LOOP
        CONTINUE WHEN peer_internal.is_current(r);
        -- a seal or a merge may be writing the same functions, after a table was changed
        PERFORM pg_advisory_xact_lock(peer_internal.lock_key(), b.bundle_number) FROM peer_internal.bundle AS b WHERE b.bundle_id = r.bundle_id;
        SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = r.relation_id;
        BEGIN
            PERFORM peer_internal.rebuild_relation(r);
            done := done + 1;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE WARNING 'capture of % stays as an earlier version of pgpeer made it: %', r.relation, SQLERRM
                USING HINT = format('Upgrade as the role that tracked the table, or SELECT peer.recapture(%L); as that role.', r.relation);
        END;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION peer_internal.rebuild_tracked() IS 'After an upgrade: writes what an earlier version has stored for tracked tables anew, where it differs. Returns for how many tables.';
