-- The part of a commit that concerns one relation. Keys that no concurrent commit touched are applied blind; the others
-- take the state that the set of commits gives them.

CREATE OR REPLACE FUNCTION peer_internal.incoming_keys(commit_no bigint, relation_id uuid) RETURNS SETOF text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- rows, not an array: those of a large commit go to a file where they do not fit into work_mem
    SELECT peer_internal.key_text(l.line, r.key_count)
      FROM peer_internal.section AS s
      JOIN peer_internal.relation AS r ON r.relation_id = s.relation_id
     CROSS JOIN LATERAL unnest(peer_internal.section_lines(s.data)) AS l(line)
     WHERE s.commit_no = incoming_keys.commit_no AND s.relation_id = incoming_keys.relation_id AND s.op <> 'SCHEMA'
$$;
COMMENT ON FUNCTION peer_internal.incoming_keys(bigint, uuid) IS 'The keys that a commit writes; one that it writes in several sections comes as often.';

CREATE OR REPLACE FUNCTION peer_internal.commits_beyond(bundle_id uuid, ancestry bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lane_no int;
    result bigint[] := '{}';
BEGIN
    -- one lane after another, each a range of the index (bundle_id, lane, seq): in one statement, without statistics, the
    -- planner would read the whole history of the bundle
    FOR lane_no IN SELECT l.lane FROM peer_internal.lane AS l WHERE l.bundle_id = commits_beyond.bundle_id LOOP
        result := result || ARRAY(SELECT d.commit_no FROM peer_internal.commit AS d
                                   WHERE d.bundle_id = commits_beyond.bundle_id AND d.lane = lane_no AND d.seq > coalesce(commits_beyond.ancestry[lane_no], 0)
                                     AND d.state = 'merged'
                                   ORDER BY d.seq);
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.commits_beyond(uuid, bigint[]) IS 'The merged commits that are not in an ancestry.';

CREATE OR REPLACE FUNCTION peer_internal.rivals(commit_no bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result bigint[];
BEGIN
    -- merge rule 4: present here and not in the ancestry, and the unseen lists
    SELECT peer_internal.commits_beyond(c.bundle_id, c.ancestry) INTO STRICT result FROM peer_internal.commit AS c WHERE c.commit_no = rivals.commit_no;
    IF EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = rivals.commit_no AND s.unseen <> '{}') THEN
        result := ARRAY(SELECT unnest(result)
                        UNION
                        SELECT d.commit_no FROM peer_internal.section AS s CROSS JOIN LATERAL unnest(s.unseen) AS u(digest)
                          JOIN peer_internal.commit AS d ON d.digest = u.digest AND d.state = 'merged'
                         WHERE s.commit_no = rivals.commit_no);
    END IF;
    RETURN array_remove(result, rivals.commit_no);
END
$$;
COMMENT ON FUNCTION peer_internal.rivals(bigint) IS 'The merged commits that a commit has not seen.';

CREATE OR REPLACE FUNCTION peer_internal.contested_keys(commit_no bigint, relation_id uuid, rivals bigint[]) RETURNS text[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
AS $$
    SELECT coalesce(array_agg(DISTINCT w.key_text), '{}')
      FROM peer_internal.section AS s
      JOIN peer_internal.relation AS r ON r.relation_id = s.relation_id
     CROSS JOIN LATERAL (SELECT peer_internal.key_text(l.line, r.key_count) AS key_text FROM unnest(peer_internal.section_lines(s.data)) AS l(line)) AS w
     WHERE s.relation_id = contested_keys.relation_id AND s.commit_no = ANY (contested_keys.rivals) AND s.op <> 'SCHEMA'
       AND EXISTS (SELECT FROM peer_internal.section AS mine
                    WHERE mine.commit_no = contested_keys.commit_no AND mine.relation_id = s.relation_id
                      AND mine.first_key <= s.last_key AND mine.last_key >= s.first_key)
       AND w.key_text IN (SELECT i.key FROM peer_internal.incoming_keys(contested_keys.commit_no, contested_keys.relation_id) AS i(key))
$$;
COMMENT ON FUNCTION peer_internal.contested_keys(bigint, uuid, bigint[]) IS 'The keys that a commit and one of its rivals both write.';

CREATE OR REPLACE FUNCTION peer_internal.rivals_to_be(commit_no bigint) RETURNS bigint[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT peer_internal.commits_beyond(c.bundle_id, peer_internal.merged_ancestry(
               ARRAY(SELECT p.commit_no FROM peer_internal.commit AS p WHERE p.digest = ANY (c.parents))))
        || ARRAY(SELECT d.commit_no FROM peer_internal.section AS s CROSS JOIN LATERAL unnest(s.unseen) AS u(digest)
                   JOIN peer_internal.commit AS d ON d.digest = u.digest AND d.state = 'merged'
                  WHERE s.commit_no = c.commit_no AND s.unseen <> '{}')
      FROM peer_internal.commit AS c WHERE c.commit_no = rivals_to_be.commit_no
$$;
COMMENT ON FUNCTION peer_internal.rivals_to_be(bigint) IS 'The merged commits that a commit, not merged yet, has not seen.';

CREATE OR REPLACE FUNCTION peer_internal.disputed_keys(commit_no bigint, relation_id uuid, rivals bigint[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET jit = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    r peer_internal.relation;
    uncommitted text[];
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = disputed_keys.relation_id;
    EXECUTE format('SELECT coalesce(array_agg(DISTINCT w.key), ''{}'') FROM (SELECT %s AS key FROM peer_internal.journal_%s AS j, unnest(j.keys) AS k(%s)) AS w
                     WHERE w.key IN (SELECT i.key FROM peer_internal.incoming_keys($1, $2) AS i(key))',
                   peer_internal.key_text_expression(r.relation_id, 'k.k%2$s'), r.relation_number, peer_internal.key_list(r.relation_id, 'k%2$s', ', '))
       INTO uncommitted USING disputed_keys.commit_no, disputed_keys.relation_id;
    IF disputed_keys.rivals <> '{}' THEN
        uncommitted := uncommitted || peer_internal.contested_keys(disputed_keys.commit_no, disputed_keys.relation_id, disputed_keys.rivals);
    END IF;
    RETURN uncommitted;
END
$$;
COMMENT ON FUNCTION peer_internal.disputed_keys(bigint, uuid, bigint[]) IS 'The keys that a commit writes and that a rival of it wrote, or that somebody here changed and has not committed.';

CREATE OR REPLACE FUNCTION peer_internal.merge_relation(commit_no bigint, relation_id uuid, rivals bigint[], locked_keys text[], is_parked boolean, is_prepared boolean) RETURNS text[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    r peer_internal.relation;
    contested text[] := '{}';
    computed text[];
    parked regclass;
    columns_sql text;
    part record;
BEGIN
    SELECT x.* INTO STRICT r FROM peer_internal.relation AS x WHERE x.relation_id = merge_relation.relation_id;
    IF rivals <> '{}' THEN
        contested := peer_internal.contested_keys(merge_relation.commit_no, merge_relation.relation_id, merge_relation.rivals);
    END IF;
    computed := contested;
    IF is_prepared AND contested <> '{}' THEN
        PERFORM peer_internal.raise_raced(r.relation);
    END IF;
    IF (SELECT b.commit_mode FROM peer_internal.bundle AS b WHERE b.bundle_id = r.bundle_id) = 'manual' THEN
        SELECT contested || coalesce(array_agg(d.key_text), '{}') INTO computed FROM peer_internal.dirty_rows(merge_relation.relation_id) AS d
         WHERE d.key_text IN (SELECT i.key FROM peer_internal.incoming_keys(merge_relation.commit_no, merge_relation.relation_id) AS i(key));
    END IF;
    IF is_parked THEN
        -- merge rule 20: rows that swap unique values leave the table, change, and come back together
        EXECUTE format('CREATE TEMP TABLE %I ON COMMIT DROP AS SELECT * FROM %s WITH NO DATA', 'pgpeer parked ' || r.relation_number, r.relation);
        parked := format('pg_temp.%I', 'pgpeer parked ' || r.relation_number)::regclass;
        columns_sql := peer_internal.key_list(r.relation_id, '%1$s', ', ')
            || coalesce(', ' || peer_internal.column_list(r.relation_id, peer_internal.all_columns(r.relation_id), '%1$s', ', '), '');
    END IF;
    FOR part IN
        SELECT s.op, s.column_ids,
               (SELECT coalesce(array_agg(l.line ORDER BY l.n), '{}') FROM unnest(peer_internal.section_lines(s.data)) WITH ORDINALITY AS l(line, n)
                 WHERE computed = '{}' OR peer_internal.key_text(l.line, r.key_count) <> ALL (computed)) AS lines
          FROM peer_internal.section AS s
         WHERE s.commit_no = merge_relation.commit_no AND s.relation_id = r.relation_id AND s.op <> 'SCHEMA'
         ORDER BY CASE s.op WHEN 'DELETE' THEN 1 WHEN 'UPDATE' THEN 2 ELSE 3 END, s.section_no
    LOOP
        IF part.op = 'INSERT' AND parked IS NOT NULL THEN
            EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s', r.relation, columns_sql, columns_sql, parked);
            EXECUTE format('DROP TABLE %s', parked);
            parked := NULL;
        END IF;
        IF part.op = 'UPDATE' AND parked IS NOT NULL THEN
            EXECUTE format('WITH gone AS (DELETE FROM %s AS t USING %s AS s WHERE %s RETURNING t.*) INSERT INTO %s SELECT * FROM gone', r.relation,
                           peer_internal.line_source(r.relation_id, '{}'), peer_internal.key_list(r.relation_id, 't.%1$s = s.%1$s', ' AND '), parked) USING part.lines;
        END IF;
        IF peer_internal.write_rows(r.relation_id, CASE WHEN part.op = 'UPDATE' AND parked IS NOT NULL THEN parked ELSE r.relation END,
                                    part.op, part.column_ids, part.lines) <> cardinality(part.lines) THEN
            IF part.op = 'INSERT' AND peer_internal.lock_rows(r.relation_id, part.lines, 'update') <> '{}' THEN
                PERFORM peer_internal.raise_raced(r.relation);
            END IF;
            RAISE EXCEPTION 'rows of % are not as the commit expects them', r.relation USING ERRCODE = 'PGM02',
                DETAIL = format('%s of %s rows, the first with key %s.', part.op, cardinality(part.lines), quote_literal(peer_internal.key_text(part.lines[1], r.key_count))),
                HINT = 'Was the table changed with triggers off (session_replication_role, ALTER TABLE … DISABLE TRIGGER)? The commit waits; pgpeer verify names the rows.';
        END IF;
    END LOOP;
    IF parked IS NOT NULL THEN
        EXECUTE format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s', r.relation, columns_sql, columns_sql, parked);
        EXECUTE format('DROP TABLE %s', parked);
    END IF;
    IF computed <> '{}' THEN
        PERFORM peer_internal.place_rows(r.relation_id, computed, locked_keys, merge_relation.commit_no, is_parked);
    END IF;
    RETURN contested;
END
$$;
COMMENT ON FUNCTION peer_internal.merge_relation(bigint, uuid, bigint[], text[], boolean, boolean) IS 'Applies the sections of a commit (already marked as merged) to one table. locked_keys: those of the keys that others changed too whose rows the caller has locked, it has locked all others that exist; is_prepared: it has locked all, but lists none. Returns the contested keys.';
