-- Reading: status, log, show, diff, state_hash, version_vector, wait_for.

CREATE OR REPLACE FUNCTION peer.status(bundle text)
RETURNS TABLE (relation regclass, key jsonb, operation text, columns text[], staged boolean)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(status.bundle);
    changed text;
BEGIN
    SELECT string_agg(c.relation::text, ', ' ORDER BY c.relation::text) INTO changed FROM peer_internal.changed_shapes(target) AS c
     WHERE EXISTS (SELECT FROM peer_internal.shape_columns(c, false) AS s WHERE s.difference IS NOT NULL OR s.own_name <> s.name);
    IF changed IS NOT NULL THEN
        RAISE EXCEPTION 'columns of % were changed, and capture has not followed yet', changed USING ERRCODE = 'PGT18',
            DETAIL = 'What is uncommitted is known when it has: with the next commit or merge.', HINT = 'Nothing was lost. A running worker follows within ten seconds; in manual mode commit.';
    END IF;
    RETURN QUERY
    SELECT r.relation, peer_internal.key_json(r.relation_id, d.key_text), d.op,
           ARRAY(SELECT c.name FROM peer_internal.relation_column AS c
                  WHERE c.relation_id = r.relation_id AND NOT c.is_key AND get_bit(d.mask, peer_internal.mask_bit(c.ordinal)) = 1 ORDER BY c.ordinal),
           false
      FROM peer_internal.relation AS r
     CROSS JOIN LATERAL peer_internal.dirty_rows(r.relation_id) AS d
     WHERE r.bundle_id = target AND r.is_tracked
     ORDER BY r.schema_name, r.table_name, d.key_text COLLATE "C";
END
$$;
COMMENT ON FUNCTION peer.status(text) IS 'The uncommitted changes of a bundle, one row per changed row; columns are the changed ones (all for an INSERT, none for a DELETE).';

CREATE OR REPLACE FUNCTION peer.log(bundle text)
RETURNS TABLE (commit_id text, author text, author_label text, seq bigint, committed_at timestamptz, message text, parents text[], row_count bigint, signed boolean)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT c.commit_id, a.peer_id, a.label, c.seq, peer_internal.hlc_time(c.hlc), c.message,
           ARRAY(SELECT peer_internal.commit_id(p.digest) FROM unnest(c.parents) AS p(digest) ORDER BY p.digest), c.row_count, c.signature IS NOT NULL
      FROM peer_internal.commit AS c JOIN peer_internal.author AS a USING (author_id)
     WHERE c.bundle_id = peer_internal.bundle_id(log.bundle) AND c.state = 'merged'
     ORDER BY c.rank DESC
$$;
COMMENT ON FUNCTION peer.log(text) IS 'The commits of a bundle that are merged here, newest first; a child always stands before its parents.';

CREATE OR REPLACE FUNCTION peer.show(bundle text, commit_id text)
RETURNS TABLE (relation regclass, key jsonb, operation text, column_name text, old_value jsonb, new_value jsonb)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(show.bundle);
    c peer_internal.commit;
    before bigint[];
BEGIN
    IF show.commit_id = 'HEAD' THEN
        SELECT x.* INTO c FROM peer_internal.commit AS x WHERE x.bundle_id = target AND x.state = 'merged' ORDER BY x.rank DESC LIMIT 1;
    ELSE
        SELECT x.* INTO STRICT c FROM peer_internal.commit AS x WHERE x.commit_no = peer_internal.resolve_commit(target, show.commit_id);
    END IF;
    before := peer_internal.with_lane(c.ancestry, c.lane, c.seq - 1);
    RETURN QUERY
    WITH written AS MATERIALIZED (
        SELECT r.relation_id, r.relation AS target_relation, r.schema_name, r.table_name, w.*
          FROM (SELECT DISTINCT s.relation_id FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no AND s.op <> 'SCHEMA') AS s
          JOIN peer_internal.relation AS r USING (relation_id)
         CROSS JOIN LATERAL peer_internal.writes(r.relation_id, NULL, ARRAY[c.commit_no]) AS w),
    old AS MATERIALIZED (
        SELECT k.relation_id, o.key_text, o.fields
          FROM (SELECT w.relation_id, array_agg(w.key_text) AS keys FROM written AS w WHERE w.op <> 'INSERT' GROUP BY w.relation_id) AS k
         CROSS JOIN LATERAL peer_internal.row_state(k.relation_id, k.keys, before, '{}') AS o),
    shown AS (
        SELECT w.schema_name, w.table_name, w.target_relation, w.relation_id, w.key_text, w.op, NULL::text AS name, NULL::int AS ordinal,
               CASE w.op WHEN 'DELETE' THEN peer_internal.row_json(w.relation_id, o.key_text, o.fields) END AS old_json,
               CASE w.op WHEN 'INSERT' THEN peer_internal.row_json(w.relation_id, w.key_text, w.fields) END AS new_json
          FROM written AS w LEFT JOIN old AS o ON o.relation_id = w.relation_id AND o.key_text = w.key_text
         WHERE w.op <> 'UPDATE'
        UNION ALL
        SELECT w.schema_name, w.table_name, w.target_relation, w.relation_id, w.key_text, w.op, x.name, x.ordinal,
               CASE WHEN o.key_text IS NOT NULL THEN peer_internal.field_json(o.fields[x.ordinal + 1], x.type) END, peer_internal.field_json(v.field, x.type)
          FROM written AS w
         CROSS JOIN LATERAL unnest(w.column_ids, w.fields) AS v(column_id, field)
          JOIN peer_internal.relation_column AS x ON x.relation_id = w.relation_id AND x.column_id = v.column_id
          LEFT JOIN old AS o ON o.relation_id = w.relation_id AND o.key_text = w.key_text
         WHERE w.op = 'UPDATE')
    SELECT s.target_relation, peer_internal.key_json(s.relation_id, s.key_text), s.op, s.name, s.old_json, s.new_json
      FROM shown AS s ORDER BY s.schema_name, s.table_name, s.key_text COLLATE "C", s.ordinal;
END
$$;
COMMENT ON FUNCTION peer.show(text, text) IS 'What a commit wrote: one row per written cell of an UPDATE, one with the whole row for an INSERT or DELETE. old_value is the value that its author saw.';

CREATE OR REPLACE FUNCTION peer.diff(bundle text, from_commit text DEFAULT 'HEAD', to_commit text DEFAULT 'WORKING')
RETURNS TABLE (relation regclass, key jsonb, operation text, column_name text, old_value jsonb, new_value jsonb)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(diff.bundle);
    from_ancestry bigint[] := peer_internal.state_ancestry(target, from_commit);
    to_ancestry bigint[] := peer_internal.state_ancestry(target, to_commit);
    -- both sides are the table: nothing differs
    working_side int := CASE WHEN from_commit = 'WORKING' THEN 1 WHEN to_commit = 'WORKING' THEN 2 ELSE 0 END;
    r record;
    keys text[];
BEGIN
    IF from_commit = 'WORKING' AND to_commit = 'WORKING' THEN
        RETURN;
    END IF;
    FOR r IN SELECT x.relation_id, x.relation FROM peer_internal.relation AS x WHERE x.bundle_id = target AND x.is_tracked ORDER BY x.schema_name, x.table_name LOOP
        keys := peer_internal.keys_between(r.relation_id, from_ancestry, to_ancestry);
        IF working_side <> 0 THEN
            keys := keys || ARRAY(SELECT d.key_text FROM peer_internal.dirty_rows(r.relation_id) AS d WHERE d.key_text <> ALL (keys));
        END IF;
        RETURN QUERY
        SELECT r.relation, peer_internal.key_json(r.relation_id, x.key_text), x.operation, x.column_name, x.old_value, x.new_value
          FROM peer_internal.changes_between(r.relation_id, from_ancestry, to_ancestry, keys, working_side) AS x
         ORDER BY x.key_text COLLATE "C", x.column_name COLLATE "C";
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer.diff(text, text, text) IS 'What differs between two states of a bundle: commits, HEAD, or WORKING (with uncommitted changes). One row per changed cell; for rows that appear or vanish one with the whole row.';

CREATE OR REPLACE FUNCTION peer.state_hash(bundle text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
    SELECT encode(sha256(coalesce(string_agg(uuid_send(r.relation_id) || peer_internal.relation_hash(r.relation_id), '' ORDER BY r.relation_id), '')), 'hex')
      FROM (SELECT peer_internal.bundle_id(state_hash.bundle) AS bundle_id) AS b
      LEFT JOIN peer_internal.relation AS r ON r.bundle_id = b.bundle_id AND r.is_tracked
$$;
COMMENT ON FUNCTION peer.state_hash(text) IS 'Equal on two databases exactly when their tracked rows, uncommitted ones included, are equal. Reads every row.';

CREATE OR REPLACE FUNCTION peer.version_vector(bundle text) RETURNS TABLE (author text, epoch bigint, seq bigint)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.peer_id, l.epoch, max(c.seq)
      FROM peer_internal.lane AS l JOIN peer_internal.author AS a USING (author_id)
      JOIN peer_internal.commit AS c ON c.bundle_id = l.bundle_id AND c.lane = l.lane AND c.state = 'merged'
     WHERE l.bundle_id = peer_internal.bundle_id(version_vector.bundle)
     GROUP BY a.peer_id, l.epoch ORDER BY a.peer_id, l.epoch
$$;
COMMENT ON FUNCTION peer.version_vector(text) IS 'The last merged commit number of every author and epoch.';

CREATE OR REPLACE FUNCTION peer.wait_for(bundle text, commit_id text, timeout interval DEFAULT '30 seconds') RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target uuid := peer_internal.bundle_id(wait_for.bundle);
    deadline timestamptz := clock_timestamp() + timeout;
    pause double precision := 0.001;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'this transaction''s snapshot cannot see a commit arrive' USING ERRCODE = 'PGC05',
            DETAIL = format('Its isolation level is %s.', current_setting('transaction_isolation')), HINT = 'Wait in a READ COMMITTED transaction.';
    END IF;
    IF wait_for.commit_id IS NULL OR wait_for.commit_id !~ '^bafyrei[a-z2-7]{52}$' THEN
        RAISE EXCEPTION 'wait_for needs a full commit id' USING ERRCODE = 'PGC06', DETAIL = format('Given: %s.', coalesce(quote_literal(wait_for.commit_id), 'NULL')),
            HINT = 'peer.commit(…) returns one; peer.log(…) lists them.';
    END IF;
    LOOP
        IF EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.bundle_id = target AND c.commit_id = wait_for.commit_id AND c.state = 'merged')
           OR EXISTS (SELECT FROM peer_internal.commit_alias AS a WHERE peer_internal.commit_id(a.old_digest) = wait_for.commit_id) THEN
            RETURN true;
        END IF;
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(pause, greatest(extract(epoch FROM deadline - clock_timestamp()), 0.0001)));
        pause := least(pause * 1.5, 0.05);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer.wait_for(text, text, interval) IS 'Waits until a commit (full id, known here or not) is merged here: true, or false after the time-out.';
