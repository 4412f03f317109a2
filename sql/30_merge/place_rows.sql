-- Bringing rows to the state that the set of commits gives them, around work that is not committed here.

CREATE OR REPLACE FUNCTION peer_internal.dirty_rows(relation_id uuid)
RETURNS TABLE (key_text text, op text, mask bit varying)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    r peer_internal.relation;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = dirty_rows.relation_id;
    IF NOT r.is_tracked THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format('WITH taken_%1$s AS (SELECT op, mask, keys FROM peer_internal.journal_%1$s), %2$s SELECT c.key_text, c.op, c.mask::bit varying FROM change_%1$s AS c',
                                r.relation_number, r.fold_sql);
END
$$;
COMMENT ON FUNCTION peer_internal.dirty_rows(uuid) IS 'The uncommitted changes of a relation: one per key, with the changed columns.';

CREATE OR REPLACE FUNCTION peer_internal.place_rows(relation_id uuid, keys text[], locked_keys text[], commit_no bigint DEFAULT NULL, is_parked boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    target regclass;
    everything uuid[] := peer_internal.all_columns(place_rows.relation_id);
    placed peer_internal.placed_row[];
    present_lines text[];
    written bigint;
    part record;
BEGIN
    SELECT r.relation INTO STRICT target FROM peer_internal.relation AS r WHERE r.relation_id = place_rows.relation_id;
    SELECT array_agg(ROW(k.key, s.fields, d.op, d.mask)::peer_internal.placed_row) INTO placed
      FROM (SELECT DISTINCT u.key FROM unnest(keys) AS u(key)) AS k
      LEFT JOIN peer_internal.row_state(place_rows.relation_id, keys, NULL, NULL) AS s ON s.key_text = k.key
      LEFT JOIN peer_internal.dirty_rows(place_rows.relation_id) AS d ON d.key_text = k.key;
    -- rows without uncommitted work: exactly the state of the commits
    PERFORM peer_internal.write_rows(place_rows.relation_id, target, 'DELETE', '{}',
        (SELECT coalesce(array_agg(p.key_text), '{}') FROM unnest(placed) AS p WHERE p.dirty_op IS NULL AND (p.fields IS NULL OR is_parked) AND p.key_text = ANY (locked_keys)));
    PERFORM peer_internal.write_rows(place_rows.relation_id, target, 'UPDATE', everything,
        (SELECT coalesce(array_agg(peer_internal.section_line(p.key_text, p.fields)), '{}')
           FROM unnest(placed) AS p WHERE p.dirty_op IS NULL AND p.fields IS NOT NULL AND NOT is_parked AND p.key_text = ANY (locked_keys)));
    SELECT coalesce(array_agg(peer_internal.section_line(p.key_text, p.fields)), '{}') INTO present_lines
      FROM unnest(placed) AS p WHERE p.dirty_op IS NULL AND p.fields IS NOT NULL AND (is_parked OR p.key_text <> ALL (locked_keys));
    written := peer_internal.write_rows(place_rows.relation_id, target, 'INSERT', everything, present_lines);
    IF written <> cardinality(present_lines) THEN
        PERFORM peer_internal.raise_raced(target);
    END IF;
    -- rows with uncommitted updates: only the other columns; a remote delete waits (merge rule 12)
    FOR part IN SELECT p.dirty_mask, array_agg(p.key_text) AS part_keys FROM unnest(placed) AS p
                 WHERE p.dirty_op = 'UPDATE' AND p.fields IS NOT NULL GROUP BY p.dirty_mask LOOP
        PERFORM peer_internal.write_rows(place_rows.relation_id, target, 'UPDATE', peer_internal.masked_columns(place_rows.relation_id, ~ part.dirty_mask),
            (SELECT array_agg(peer_internal.section_line(p.key_text,
                        (SELECT coalesce(array_agg(f.field ORDER BY f.n), '{}') FROM unnest(p.fields) WITH ORDINALITY AS f(field, n)
                          WHERE get_bit(part.dirty_mask, peer_internal.mask_bit(f.n::int - 1)) = 0)))
               FROM unnest(placed) AS p WHERE p.key_text = ANY (part.part_keys)));
    END LOOP;
    IF place_rows.commit_no IS NOT NULL THEN
        INSERT INTO peer_internal.unseen (relation_id, key_text, column_id, digest)
        SELECT DISTINCT place_rows.relation_id, p.key_text,
               CASE WHEN p.dirty_op = 'UPDATE' AND w.op <> 'DELETE' THEN v.column_id END, w.digest
          FROM unnest(placed) AS p
          JOIN peer_internal.writes(place_rows.relation_id, keys, ARRAY[place_rows.commit_no]) AS w ON w.key_text = p.key_text
          LEFT JOIN LATERAL unnest(CASE WHEN p.dirty_op = 'UPDATE' AND w.op <> 'DELETE' THEN w.column_ids END) AS v(column_id) ON true
         WHERE p.dirty_op IS NOT NULL
           AND (p.dirty_op <> 'UPDATE' OR w.op = 'DELETE'
                OR v.column_id = ANY (peer_internal.masked_columns(place_rows.relation_id, p.dirty_mask)))
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.place_rows(uuid, text[], text[], bigint, boolean) IS
    'Gives rows the state of all merged commits leaving uncommitted cells alone; commit_no is the one that is being merged. Only locked rows are changed, only missing ones inserted.';

CREATE OR REPLACE FUNCTION peer_internal.raise_raced(target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a row of % appeared while it was being merged', target USING ERRCODE = 'PGM90',
        HINT = 'The merge locks it and tries again by itself.';
END
$$;
COMMENT ON FUNCTION peer_internal.raise_raced(regclass) IS 'Sends the merge round its loop again (merge rule 7). Never reaches a user.';

CREATE OR REPLACE FUNCTION peer_internal.uncover_rows(relation_id uuid, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET session_replication_role = replica
AS $$
DECLARE
    locked_keys text[];
    attempt int := 0;
BEGIN
    DELETE FROM peer_internal.unseen AS u WHERE u.relation_id = uncover_rows.relation_id AND u.key_text = ANY (keys);
    LOOP
        locked_keys := peer_internal.lock_rows(uncover_rows.relation_id, keys, 'delete');
        BEGIN
            PERFORM peer_internal.place_rows(uncover_rows.relation_id, keys, locked_keys);
            RETURN;
        EXCEPTION WHEN SQLSTATE 'PGM90' THEN
            attempt := attempt + 1;
            IF attempt > 100 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.uncover_rows(uuid, text[]) IS 'Gives rows whose uncommitted work is gone the state that all merged commits give them.';

CREATE OR REPLACE FUNCTION peer_internal.settle_clean(bundle_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT r.relation_id, array_agg(DISTINCT u.key_text) AS keys
          FROM peer_internal.relation AS r JOIN peer_internal.unseen AS u USING (relation_id)
         WHERE r.bundle_id = settle_clean.bundle_id AND r.is_tracked
           AND u.key_text NOT IN (SELECT d.key_text FROM peer_internal.dirty_rows(r.relation_id) AS d)
         GROUP BY r.relation_id
    LOOP
        PERFORM peer_internal.uncover_rows(part.relation_id, part.keys);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.settle_clean(uuid) IS 'Rows whose uncommitted work was taken back (an insert deleted again) show what others did to them meanwhile.';

CREATE OR REPLACE FUNCTION peer_internal.settle_unseen(commit_no bigint) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET session_replication_role = replica
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT s.relation_id, r.bundle_id, array_agg(DISTINCT k.key_text) AS keys, array_agg(DISTINCT c.commit_no) AS rivals
          FROM peer_internal.section AS s
          JOIN peer_internal.relation AS r ON r.relation_id = s.relation_id
         CROSS JOIN LATERAL (SELECT peer_internal.key_text(l.line, r.key_count) AS key_text FROM unnest(peer_internal.section_lines(s.data)) AS l(line)) AS k
          JOIN peer_internal.commit AS c ON c.digest = ANY (s.unseen)
         WHERE s.commit_no = settle_unseen.commit_no AND s.unseen <> '{}'
         GROUP BY s.relation_id, r.bundle_id
    LOOP
        PERFORM peer_internal.uncover_rows(part.relation_id, part.keys);
        PERFORM peer_internal.find_conflicts(settle_unseen.commit_no, part.relation_id, part.keys, part.rivals);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.settle_unseen(bigint) IS 'After uncommitted work that had not seen some commits was committed: its rows take the state that all commits give them.';
