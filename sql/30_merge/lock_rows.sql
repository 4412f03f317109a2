-- Locking the rows that a merge will write, without ever letting a user be the victim of a deadlock.

CREATE OR REPLACE FUNCTION peer_internal.lock_statement(relation_id uuid, strength text, wait text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT coalesce(array_agg(locked.line), ''{}'')
                     FROM (SELECT s.line FROM %s AS t JOIN (SELECT l.line, peer_internal.split_line(l.line) AS f FROM unnest($1) AS l(line) OFFSET 0) AS s ON %s
                            ORDER BY %s FOR %s OF t %s) AS locked',
                  r.relation, peer_internal.key_match(r.relation_id), peer_internal.key_list(r.relation_id, 't.%1$s', ', '),
                  CASE lock_statement.strength WHEN 'delete' THEN 'UPDATE' ELSE 'NO KEY UPDATE' END, lock_statement.wait)
      FROM peer_internal.relation AS r WHERE r.relation_id = lock_statement.relation_id
$$;
COMMENT ON FUNCTION peer_internal.lock_statement(uuid, text, text) IS 'SQL text that locks the rows with the keys of lines ($1) that exist, in key order (merge rule 7), and returns their lines.';

CREATE OR REPLACE FUNCTION peer_internal.lock_rows(relation_id uuid, lines text[], strength text) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
-- the key is indexed: each chunk of a large commit would read the whole table anew to join it
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    locked text[];
BEGIN
    EXECUTE peer_internal.lock_statement(lock_rows.relation_id, strength, '') INTO locked USING lines;
    RETURN locked;
END
$$;
COMMENT ON FUNCTION peer_internal.lock_rows(uuid, text[], text) IS 'Locks the rows with these keys that exist, however long that takes, and returns their lines. strength: update or delete.';

CREATE OR REPLACE FUNCTION peer_internal.waiting_deadline() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- A user who waits for a lock of this merge looks for a deadlock after deadlock_timeout. If the merge has long ceased to wait
    -- by then, whatever it holds, there is no circle that would end the user (merge rule 8).
    SELECT clock_timestamp() + least(interval '400 ms', current_setting('deadlock_timeout')::interval / 2)
$$;
COMMENT ON FUNCTION peer_internal.waiting_deadline() IS 'Until when a merge that takes its first lock now may wait for others.';

CREATE OR REPLACE FUNCTION peer_internal.bound_waiting(deadline timestamptz) RETURNS boolean
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- 0 would mean for ever
    SELECT set_config('lock_timeout', greatest(1, ceil(extract(epoch FROM deadline - clock_timestamp()) * 1000))::text, true) IS NOT NULL
       AND clock_timestamp() < deadline
$$;
COMMENT ON FUNCTION peer_internal.bound_waiting(timestamptz) IS 'Sets lock_timeout so that a wait that begins now ends at the deadline; false when it has passed.';

CREATE OR REPLACE FUNCTION peer_internal.lock_rows_until(relation_id uuid, lines text[], strength text, deadline timestamptz) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off
SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    target regclass;
    locked text[];
    held_by_others text;
BEGIN
    BEGIN
        EXECUTE peer_internal.lock_statement(lock_rows_until.relation_id, strength, 'NOWAIT') INTO locked USING lines;
        RETURN locked;
    EXCEPTION WHEN lock_not_available THEN
        SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = lock_rows_until.relation_id;
    END;
    -- somebody holds one: take what is free, and wait for the others one by one
    LOOP
        EXECUTE peer_internal.lock_statement(lock_rows_until.relation_id, strength, 'SKIP LOCKED') INTO locked USING lines;
        EXECUTE format('SELECT s.line FROM %s AS t JOIN (SELECT l.line, peer_internal.split_line(l.line) AS f FROM unnest($1) AS l(line) OFFSET 0) AS s ON %s
                         WHERE s.line <> ALL ($2) LIMIT 1', target, peer_internal.key_match(lock_rows_until.relation_id))
           INTO held_by_others USING lines, locked;
        IF held_by_others IS NULL THEN
            RETURN locked;
        END IF;
        IF NOT peer_internal.bound_waiting(deadline) THEN
            RAISE EXCEPTION 'a row of % is locked by another transaction', target USING ERRCODE = 'lock_not_available',
                HINT = 'The merge has rolled back and comes back by itself.';
        END IF;
        EXECUTE peer_internal.lock_statement(lock_rows_until.relation_id, strength, '') INTO locked USING ARRAY[held_by_others];
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.lock_rows_until(uuid, text[], text, timestamptz) IS
    'As peer_internal.lock_rows, but never waits beyond the deadline: then lock_not_available.';
