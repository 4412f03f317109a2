-- Partitioned tables. Statement triggers fire for the table that a statement names, so the table and each of its partitions has its
-- own. Partitions come and go without asking pgpeer: each seal and each merge first brings capture in line with them.

CREATE OR REPLACE FUNCTION peer_internal.is_part(part oid, relation_number int) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM peer_internal.relation AS r
                    WHERE r.relation_number = is_part.relation_number
                      AND (r.relation = part OR r.relation IN (SELECT a.relid FROM pg_partition_ancestors(part) AS a)))
$$;
COMMENT ON FUNCTION peer_internal.is_part(oid, int) IS 'Whether a table belongs to a tracked relation now: a partition that was detached keeps its triggers.';

CREATE OR REPLACE FUNCTION peer_internal.compare_with_head(r peer_internal.relation, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    no_mask text := format('repeat(''0'', %s)::bit(%s)', r.mask_bits, r.mask_bits);
    typed_key text;
BEGIN
    SELECT string_agg(peer_internal.value_expression(format('c.f[%s]', k.ordinal + 1), k.type), ', ' ORDER BY k.ordinal) INTO STRICT typed_key
      FROM peer_internal.relation_column AS k WHERE k.relation_id = r.relation_id AND k.is_key;
    IF r.key_count > 1 THEN
        typed_key := format('ROW(%s)::peer_internal.%I', typed_key, 'key_' || r.relation_number);
    END IF;
    -- One statement, one snapshot. Rows that a merge met uncommitted (unseen) keep their journal: it says what was changed here,
    -- which their values alone no longer tell.
    EXECUTE format($sql$
        WITH taken AS (DELETE FROM peer_internal.journal_%1$s RETURNING op, mask, keys),
        entry AS MATERIALIZED (SELECT t.op, t.mask, %2$s AS key_text FROM taken AS t, unnest(t.keys) AS k(%3$s)),
        scope AS MATERIALIZED (SELECT CASE WHEN $2 IS NOT NULL THEN $2 || ARRAY(SELECT e.key_text FROM entry AS e) END AS keys),
        head AS MATERIALIZED (SELECT s.* FROM scope, peer_internal.row_state($1, scope.keys, NULL, NULL) AS s),
        present AS MATERIALIZED (SELECT s.* FROM scope, peer_internal.working_rows($1, ARRAY(SELECT DISTINCT u.key FROM unnest(scope.keys) AS u(key))) AS s WHERE scope.keys IS NOT NULL
                                 UNION ALL SELECT s.* FROM scope, peer_internal.working_rows($1, NULL) AS s WHERE scope.keys IS NULL),
        change AS (
            SELECT coalesce(h.key_text, p.key_text) AS key_text,
                   CASE WHEN h.key_text IS NULL THEN 'I' WHEN p.key_text IS NULL THEN 'D' ELSE 'U' END AS op,
                   CASE WHEN h.key_text IS NULL OR p.key_text IS NULL THEN %4$s
                        ELSE (SELECT bit_or(set_bit(%4$s, peer_internal.mask_bit(n - 1), 1)) FROM generate_subscripts(p.fields, 1) AS n
                               WHERE p.fields[n] IS DISTINCT FROM h.fields[n]) END AS mask
              FROM head AS h FULL JOIN present AS p ON p.key_text = h.key_text
             WHERE h.key_text IS NULL OR p.key_text IS NULL OR p.fields IS DISTINCT FROM h.fields),
        entered AS (
            SELECT e.op::text, e.mask, e.key_text FROM entry AS e WHERE EXISTS (SELECT FROM peer_internal.unseen AS u WHERE u.relation_id = $1 AND u.key_text = e.key_text)
            UNION ALL
            SELECT c.op, c.mask, c.key_text FROM change AS c WHERE c.key_text NOT IN (SELECT e.key_text FROM entry AS e)
                OR NOT EXISTS (SELECT FROM peer_internal.unseen AS u WHERE u.relation_id = $1 AND u.key_text = c.key_text)),
        chunk AS (SELECT e.op, e.mask, (row_number() OVER (PARTITION BY e.op, e.mask) - 1) / %5$s AS number, peer_internal.split_line(e.key_text) AS f FROM entered AS e)
        INSERT INTO peer_internal.journal_%1$s (op, mask, keys)
        SELECT c.op::"char", c.mask, array_agg(%6$s) FROM chunk AS c GROUP BY c.op, c.mask, c.number
        $sql$, r.relation_number, peer_internal.key_text_expression(r.relation_id, 'k.k%2$s'), peer_internal.key_list(r.relation_id, 'k%2$s', ', '),
        no_mask, 8192, typed_key) USING r.relation_id, compare_with_head.keys;
END
$$;
COMMENT ON FUNCTION peer_internal.compare_with_head(peer_internal.relation, text[]) IS
    'Writes the journal of a relation anew from what differs between its rows (keys, and those in the journal; NULL: all) and the merged commits.';

CREATE OR REPLACE FUNCTION peer_internal.part_keys(r peer_internal.relation, part regclass) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    result text[];
BEGIN
    EXECUTE format('SELECT coalesce(array_agg(%s), ''{}'') FROM ONLY %s AS t', peer_internal.key_text_expression(r.relation_id, 't.%1$s'), part) INTO result;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.part_keys(peer_internal.relation, regclass) IS 'The keys of the rows of one partition.';

CREATE OR REPLACE FUNCTION peer_internal.follow_relation(r peer_internal.relation) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '400ms'
AS $$
DECLARE
    part regclass;
    keys text[] := '{}';
    is_reduced boolean;
    has_journal boolean;
BEGIN
    -- nobody attaches or detaches meanwhile; readers and writers go on
    FOR part IN SELECT m.part FROM peer_internal.table_parts(r.relation) AS m(part) WHERE peer_internal.is_partitioned(m.part) ORDER BY m.part::oid LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', part);
    END LOOP;
    is_reduced := EXISTS (SELECT FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id AND p.part NOT IN (SELECT peer_internal.table_parts(r.relation)));
    FOR part IN SELECT m.part FROM peer_internal.table_parts(r.relation) AS m(part)
                 WHERE NOT EXISTS (SELECT FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id AND p.part = m.part)
                 ORDER BY m.part::oid LOOP
        -- whoever wrote to the partition without being captured has ended when this lock is ours
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', part);
        PERFORM peer_internal.attach_triggers(r, part);
        keys := keys || peer_internal.part_keys(r, part);
    END LOOP;
    EXECUTE format('SELECT EXISTS (SELECT FROM peer_internal.journal_%s)', r.relation_number) INTO has_journal;
    IF is_reduced OR keys <> '{}' OR has_journal THEN
        PERFORM peer_internal.compare_with_head(r, CASE WHEN NOT is_reduced THEN keys END);
    END IF;
    DELETE FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id AND p.part NOT IN (SELECT peer_internal.table_parts(r.relation));
    INSERT INTO peer_internal.relation_part (relation_id, part)
    SELECT r.relation_id, m.part FROM peer_internal.table_parts(r.relation) AS m(part) ON CONFLICT DO NOTHING;
EXCEPTION
WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'a partition of % is new, and may not be captured', r.relation USING ERRCODE = 'insufficient_privilege', DETAIL = SQLERRM || '.',
        HINT = format('GRANT ALL ON %s TO %I; as its owner. Nothing was lost: the changes are committed then.', coalesce(part, r.relation), CURRENT_USER);
WHEN lock_not_available THEN
    RAISE EXCEPTION 'partitions of % have changed, and one of them is being written', r.relation USING ERRCODE = 'lock_not_available',
        DETAIL = 'Its rows are captured once the transaction that writes it has ended.', HINT = 'Nothing was lost. Try again; the worker does so by itself.';
END
$$;
COMMENT ON FUNCTION peer_internal.follow_relation(peer_internal.relation) IS
    'Brings the capture of one partitioned table in line with its partitions: rows that came with a partition become inserts, those that went with one deletes.';

CREATE OR REPLACE FUNCTION peer_internal.changed_partitions(bundle_id uuid) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT x.relation_id, x.relation FROM peer_internal.relation AS x
              WHERE x.bundle_id = changed_partitions.bundle_id AND x.is_tracked
                AND EXISTS (SELECT FROM peer_internal.relation_part AS p WHERE p.relation_id = x.relation_id) LOOP
        RETURN QUERY SELECT r.relation_id
          WHERE EXISTS (SELECT FROM peer_internal.table_parts(r.relation) AS m(part)
                          FULL JOIN (SELECT p.part FROM peer_internal.relation_part AS p WHERE p.relation_id = r.relation_id) AS p ON p.part::oid = m.part::oid
                         WHERE m.part IS NULL OR p.part IS NULL);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.changed_partitions(uuid) IS 'The relations of a bundle whose partitions came or went since capture was brought in line with them.';

CREATE OR REPLACE FUNCTION peer_internal.has_new_partitions(bundle_id uuid) RETURNS boolean
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM peer_internal.changed_partitions(has_new_partitions.bundle_id))
        OR EXISTS (SELECT FROM peer_internal.changed_shapes(has_new_partitions.bundle_id));
END
$$;
COMMENT ON FUNCTION peer_internal.has_new_partitions(uuid) IS 'Whether a seal has partitions or changed tables to follow, although no row may have been journaled.';

CREATE OR REPLACE FUNCTION peer_internal.follow_partitions(bundle_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM peer_internal.follow_shape(r) FROM peer_internal.changed_shapes(follow_partitions.bundle_id) AS r;
    PERFORM peer_internal.follow_relation(r) FROM peer_internal.relation AS r
      WHERE r.suspended IS NULL AND r.relation_id IN (SELECT peer_internal.changed_partitions(follow_partitions.bundle_id));
END
$$;
COMMENT ON FUNCTION peer_internal.follow_partitions(uuid) IS
    'Called at the begin of a seal and of a merge, under the bundle lock: tables that were changed and partitions that came or went since the last one are followed.';
