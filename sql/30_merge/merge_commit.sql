-- Merging one commit: atomically or not at all.

CREATE OR REPLACE FUNCTION peer_internal.lane_for(c peer_internal.commit) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before peer_internal.commit;
    result int;
BEGIN
    IF c.previous IS NULL THEN
        IF c.seq <> 1 THEN
            RAISE EXCEPTION 'commit % has no previous commit but number %', c.commit_id, c.seq USING ERRCODE = 'PGM01', HINT = 'Its author is broken or hostile. Nothing was changed.';
        END IF;
        SELECT l.lane INTO result FROM peer_internal.lane AS l
         WHERE l.bundle_id = c.bundle_id AND l.author_id = c.author_id AND l.epoch = c.epoch AND l.fork_seq = 0
           AND NOT EXISTS (SELECT FROM peer_internal.commit AS d WHERE d.bundle_id = l.bundle_id AND d.lane = l.lane AND d.state = 'merged');
    ELSE
        SELECT p.* INTO before FROM peer_internal.commit AS p WHERE p.digest = c.previous AND p.state = 'merged' AND p.bundle_id = c.bundle_id;
        IF NOT FOUND OR before.author_id <> c.author_id OR before.epoch <> c.epoch OR before.seq + 1 <> c.seq THEN
            RAISE EXCEPTION 'commit % does not follow its previous commit', c.commit_id USING ERRCODE = 'PGM01', HINT = 'Its author is broken or hostile. Nothing was changed.';
        END IF;
        IF NOT EXISTS (SELECT FROM peer_internal.commit AS d WHERE d.bundle_id = c.bundle_id AND d.lane = before.lane AND d.seq = c.seq AND d.state = 'merged') THEN
            result := before.lane;
        END IF;
    END IF;
    IF result IS NULL THEN
        INSERT INTO peer_internal.lane (bundle_id, lane, author_id, epoch, fork_of, fork_seq)
        SELECT c.bundle_id, coalesce(max(l.lane), 0) + 1, c.author_id, c.epoch, before.lane, c.seq - 1 FROM peer_internal.lane AS l WHERE l.bundle_id = c.bundle_id
        RETURNING lane INTO result;
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.lane_for(peer_internal.commit) IS 'The lane that a commit continues, or a new one for a first commit or a fork (merge rule 15).';

CREATE OR REPLACE FUNCTION peer_internal.mark_merged(commit_no bigint) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c peer_internal.commit;
    new_lane int;
    parent_nos bigint[];
BEGIN
    SELECT x.* INTO STRICT c FROM peer_internal.commit AS x WHERE x.commit_no = mark_merged.commit_no;
    SELECT coalesce(array_agg(p.commit_no), '{}') INTO parent_nos FROM peer_internal.commit AS p WHERE p.digest = ANY (c.parents);
    IF EXISTS (SELECT FROM peer_internal.commit AS p WHERE p.commit_no = ANY (parent_nos) AND p.hlc >= c.hlc) THEN
        RAISE EXCEPTION 'commit % is dated before one of its parents', c.commit_id USING ERRCODE = 'PGM01', HINT = 'Its author is broken or hostile. Nothing was changed.';
    END IF;
    new_lane := peer_internal.lane_for(c);
    IF c.previous IS NOT NULL AND NOT EXISTS (
        SELECT FROM peer_internal.commit AS b, peer_internal.commit AS p
         WHERE b.digest = c.previous AND p.commit_no = ANY (parent_nos) AND b.seq <= coalesce(p.ancestry[b.lane], 0)) THEN
        RAISE EXCEPTION 'commit % does not have its previous commit in its ancestry', c.commit_id USING ERRCODE = 'PGM01', HINT = 'Its author is broken or hostile. Nothing was changed.';
    END IF;
    UPDATE peer_internal.commit AS x
       SET state = 'merged', lane = new_lane, position = nextval('peer_internal.commit_position'),
           ancestry = peer_internal.with_lane(peer_internal.merged_ancestry(parent_nos), new_lane, c.seq),
           held_since = NULL, held_kind = NULL, held_detail = NULL, retry_at = NULL
     WHERE x.commit_no = c.commit_no;
    UPDATE peer_internal.bundle AS b SET last_hlc = greatest(b.last_hlc, c.hlc) WHERE b.bundle_id = c.bundle_id;
    PERFORM peer_internal.become_head(c.commit_no);
END
$$;
COMMENT ON FUNCTION peer_internal.mark_merged(bigint) IS 'Checks the place of a commit in the history and takes it into the set of merged commits.';

CREATE OR REPLACE FUNCTION peer_internal.apply_commit(commit_no bigint, locked jsonb, is_parked boolean, is_prepared boolean) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rivals bigint[];
    contested text[];
    all_contested jsonb := '{}';
    part record;
BEGIN
    PERFORM peer_internal.mark_merged(apply_commit.commit_no);
    PERFORM peer_internal.settle_conflicts(apply_commit.commit_no);
    rivals := peer_internal.rivals(apply_commit.commit_no);
    FOR part IN
        SELECT DISTINCT s.relation_id FROM peer_internal.section AS s JOIN peer_internal.relation AS r USING (relation_id)
         WHERE s.commit_no = apply_commit.commit_no AND s.op <> 'SCHEMA' AND r.is_tracked ORDER BY s.relation_id
    LOOP
        contested := peer_internal.merge_relation(apply_commit.commit_no, part.relation_id, rivals,
            ARRAY(SELECT jsonb_array_elements_text(locked -> part.relation_id::text)), is_parked, is_prepared);
        IF contested <> '{}' THEN
            all_contested := jsonb_set(all_contested, ARRAY[part.relation_id::text], to_jsonb(contested));
            PERFORM peer_internal.find_conflicts(apply_commit.commit_no, part.relation_id, contested, rivals);
        END IF;
    END LOOP;
    PERFORM peer_internal.verify_commit(apply_commit.commit_no, all_contested);
    IF EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = apply_commit.commit_no AND s.op = 'SCHEMA') THEN
        PERFORM peer_internal.create_missing_foreign_keys(r.description -> 'table')
           FROM peer_internal.commit AS c JOIN peer_internal.relation AS r USING (bundle_id) WHERE c.commit_no = apply_commit.commit_no AND r.is_tracked;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.apply_commit(bigint, jsonb, boolean, boolean) IS 'One attempt at merging a commit. locked: what peer_internal.lock_disputed returned; is_prepared: the rows are locked, but nothing is listed.';

CREATE OR REPLACE FUNCTION peer_internal.lock_targets(commit_no bigint, deadline timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT s.relation_id, s.op, s.data FROM peer_internal.section AS s JOIN peer_internal.relation AS r USING (relation_id)
                 WHERE s.commit_no = lock_targets.commit_no AND s.op <> 'SCHEMA' AND r.is_tracked ORDER BY s.relation_id, s.section_no LOOP
        PERFORM peer_internal.lock_rows_until(part.relation_id, peer_internal.section_lines(part.data),
                                              CASE part.op WHEN 'DELETE' THEN 'delete' ELSE 'update' END, deadline);
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.lock_targets(bigint, timestamptz) IS 'Locks the rows that a commit writes and that exist.';

CREATE OR REPLACE FUNCTION peer_internal.lock_disputed(commit_no bigint, rivals bigint[], deadline timestamptz) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
    keys text[];
    locked jsonb := '{}';
BEGIN
    FOR part IN SELECT DISTINCT s.relation_id FROM peer_internal.section AS s JOIN peer_internal.relation AS r USING (relation_id)
                 WHERE s.commit_no = lock_disputed.commit_no AND s.op <> 'SCHEMA' AND r.is_tracked ORDER BY s.relation_id LOOP
        keys := peer_internal.disputed_keys(lock_disputed.commit_no, part.relation_id, lock_disputed.rivals);
        CONTINUE WHEN keys = '{}';
        locked := jsonb_set(locked, ARRAY[part.relation_id::text], to_jsonb(peer_internal.lock_rows_until(part.relation_id, keys, 'update', deadline)));
    END LOOP;
    RETURN locked;
END
$$;
COMMENT ON FUNCTION peer_internal.lock_disputed(bigint, bigint[], timestamptz) IS
    'Of the rows that peer_internal.lock_targets locked, those that others changed too, also without a commit: relation id → keys. A large commit has few of them, and only they are asked for.';

CREATE OR REPLACE FUNCTION peer_internal.merge_commit(commit_no bigint, deadline timestamptz, is_prepared boolean) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET session_replication_role = replica SET lock_timeout = '1ms'
AS $$
DECLARE
    bundle record;
    part record;
    locked jsonb := '{}';
    rivals bigint[];
    has_journal boolean;
    is_parked boolean := false;
    attempt int := 0;
BEGIN
    PERFORM peer_internal.bound_waiting(deadline);
    SELECT b.bundle_id, b.commit_mode INTO STRICT bundle FROM peer_internal.commit AS c JOIN peer_internal.bundle AS b USING (bundle_id)
     WHERE c.commit_no = merge_commit.commit_no;
    FOR part IN SELECT s.relation_id, s.data FROM peer_internal.section AS s
                 WHERE s.commit_no = merge_commit.commit_no AND s.op = 'SCHEMA' ORDER BY s.section_no LOOP
        PERFORM peer_internal.adopt_relation(bundle.bundle_id, part.relation_id, part.data::jsonb);
    END LOOP;
    IF EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = merge_commit.commit_no AND s.op <> 'SCHEMA'
                  AND NOT EXISTS (SELECT FROM peer_internal.relation AS r WHERE r.relation_id = s.relation_id AND r.bundle_id = bundle.bundle_id)) THEN
        RAISE EXCEPTION 'a commit changes a relation that its bundle does not have' USING ERRCODE = 'PGM01', HINT = 'The peer that made it is broken or hostile. Nothing was changed.';
    END IF;
    PERFORM peer_internal.bound_sections(merge_commit.commit_no);
    LOOP
        attempt := attempt + 1;
        -- merge rule 7: lock the rows that exist, then seal what was written here (rule 11), then compare and write
        -- prepared: both was done for the whole batch, and only a contested key sends the merge round this loop again
        IF attempt > 1 OR NOT is_prepared THEN
            rivals := peer_internal.rivals_to_be(merge_commit.commit_no);
            PERFORM peer_internal.lock_targets(merge_commit.commit_no, deadline);
            -- only now: what is written to locked rows is committed, and in the journal
            has_journal := peer_internal.journal_numbers(bundle.bundle_id) <> '{}';
            locked := CASE WHEN rivals <> '{}' OR has_journal THEN peer_internal.lock_disputed(merge_commit.commit_no, rivals, deadline) ELSE '{}' END;
            PERFORM peer_internal.bound_waiting(deadline);
            IF bundle.commit_mode = 'auto' AND has_journal THEN
                PERFORM peer_internal.seal_bundle(bundle.bundle_id);
            END IF;
        END IF;
        BEGIN
            PERFORM peer_internal.apply_commit(merge_commit.commit_no, locked, is_parked, attempt = 1 AND is_prepared);
            RETURN;
        EXCEPTION
            WHEN SQLSTATE 'PGM90' THEN
                IF attempt > 100 THEN
                    RAISE;
                END IF;
            WHEN unique_violation OR exclusion_violation THEN
                -- merge rule 7: first fold again, an unsealed row may be the rival; then park what swaps unique values (rule 20)
                IF is_parked AND (bundle.commit_mode = 'manual' OR peer_internal.journal_numbers(bundle.bundle_id) = '{}') OR attempt > 100 THEN
                    RAISE;
                END IF;
                is_parked := true;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.merge_commit(bigint, timestamptz, boolean) IS
    'Merges one complete commit whose parents are merged, waiting for locks no longer than the deadline. Raises when it cannot; then nothing has changed. is_prepared: peer_internal.prepare_batch was called for it.';

CREATE OR REPLACE FUNCTION peer_internal.are_merged(bundle_id uuid, digests bytea[]) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM unnest(digests) AS u(digest)
                        WHERE NOT EXISTS (SELECT FROM peer_internal.commit AS c
                                           WHERE c.digest = u.digest AND c.bundle_id = are_merged.bundle_id AND c.state = 'merged'))
$$;
COMMENT ON FUNCTION peer_internal.are_merged(uuid, bytea[]) IS 'Whether all of these commits are merged here.';

CREATE OR REPLACE FUNCTION peer_internal.next_commits(bundle_id uuid, max_commits int, max_rows bigint) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    result bigint[] := '{}';
    digests bytea[] := '{}';
    rows_left bigint := max_rows;
    has_schema boolean;
BEGIN
    FOR c IN SELECT x.commit_no, x.digest, x.parents, x.row_count FROM peer_internal.commit AS x
              WHERE x.bundle_id = next_commits.bundle_id AND (x.state = 'received' OR (x.state = 'held' AND x.retry_at <= clock_timestamp()))
              ORDER BY x.hlc, x.rank
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no AND s.data IS NULL)
                   OR NOT peer_internal.are_merged(next_commits.bundle_id, ARRAY(SELECT p.digest FROM unnest(c.parents) AS p(digest) WHERE p.digest <> ALL (digests)));
        -- a commit that brings tables goes alone: there is nothing to lock before it
        has_schema := EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no AND s.op = 'SCHEMA');
        EXIT WHEN result <> '{}' AND (has_schema OR c.row_count > rows_left);
        result := result || c.commit_no;
        digests := digests || c.digest;
        rows_left := rows_left - c.row_count;
        EXIT WHEN has_schema OR cardinality(result) >= max_commits;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.next_commits(uuid, int, bigint) IS 'Complete commits whose parents are merged, or stand before them in the result.';

CREATE OR REPLACE FUNCTION peer_internal.prepare_batch(bundle_id uuid, commit_nos bigint[], deadline timestamptz) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1ms'
AS $$
DECLARE
    n bigint;
    prepared bigint[] := '{}';
BEGIN
    -- merge rules 7 and 11 for a batch: lock the rows of all of its commits, seal once, then merge one after another
    FOREACH n IN ARRAY commit_nos LOOP
        BEGIN
            PERFORM peer_internal.lock_targets(n, deadline);
            prepared := prepared || n;
        EXCEPTION WHEN data_exception OR syntax_error_or_access_rule_violation THEN
            CONTINUE;  -- lines that are no rows: its own merge will say so
        END;
    END LOOP;
    PERFORM peer_internal.bound_waiting(deadline);
    IF peer_internal.journal_numbers(prepare_batch.bundle_id) <> '{}' THEN
        PERFORM peer_internal.seal_bundle(prepare_batch.bundle_id);
    END IF;
    RETURN prepared;
END
$$;
COMMENT ON FUNCTION peer_internal.prepare_batch(uuid, bigint[], timestamptz) IS 'Locks what several commits write and seals what was written here; returns the commits for which that went well.';

CREATE OR REPLACE FUNCTION peer_internal.merge_next(bundle_id uuid, max_commits int DEFAULT 100)
RETURNS TABLE (digest bytea, outcome text, detail text)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    c peer_internal.commit;
    batch bigint[];
    prepared bigint[];
    n bigint;
    is_auto boolean;
    enforced boolean := peer_internal.is_enforced(merge_next.bundle_id);
    vouched bytea[];
    drift interval;
    deadline timestamptz;
    done int := 0;
    message text;
    message_detail text;
    message_state text;
BEGIN
    PERFORM peer_internal.enter_bundle(merge_next.bundle_id);
    deadline := peer_internal.waiting_deadline();
    PERFORM peer_internal.bound_waiting(deadline);
    PERFORM peer_internal.follow_partitions(merge_next.bundle_id);
    SELECT x.clock_drift_limit INTO STRICT drift FROM peer.config AS x;
    SELECT b.commit_mode = 'auto' INTO is_auto FROM peer_internal.bundle AS b WHERE b.bundle_id = merge_next.bundle_id;
    IF enforced THEN
        PERFORM peer_internal.retry_vouched(merge_next.bundle_id);
        vouched := peer_internal.vouched_commits(merge_next.bundle_id);
    END IF;
    WHILE done < max_commits LOOP
        batch := peer_internal.next_commits(merge_next.bundle_id, max_commits - done, 8192);
        EXIT WHEN batch = '{}';
        prepared := CASE WHEN is_auto AND cardinality(batch) > 1 THEN peer_internal.prepare_batch(merge_next.bundle_id, batch, deadline) ELSE '{}' END;
        FOREACH n IN ARRAY batch LOOP
            SELECT x.* INTO STRICT c FROM peer_internal.commit AS x WHERE x.commit_no = n;
            done := done + 1;
            -- one of the batch before it may have been held
            CONTINUE WHEN NOT peer_internal.are_merged(merge_next.bundle_id, c.parents);
            digest := c.digest;
            detail := NULL;
            IF peer_internal.hlc_time(c.hlc) > clock_timestamp() + drift THEN
                outcome := 'held';
                detail := format('It is dated %s, more than %s ahead of this server''s clock.', peer_internal.hlc_time(c.hlc), drift);
                PERFORM peer_internal.hold(c.commit_no, 'future_commit', detail, peer_internal.hlc_time(c.hlc) - drift);
                RETURN NEXT;
                CONTINUE;
            END IF;
            detail := CASE WHEN enforced THEN peer_internal.refusal_of(c, vouched) END;
            IF detail IS NOT NULL THEN
                outcome := 'held';
                PERFORM peer_internal.hold(c.commit_no, 'not_a_writer', detail, 'infinity');
                RETURN NEXT;
                CONTINUE;
            END IF;
            BEGIN
                PERFORM peer_internal.merge_commit(c.commit_no, deadline, n = ANY (prepared));
                outcome := 'merged';
                UPDATE peer_internal.commit AS x SET retry_at = clock_timestamp()
                 WHERE x.bundle_id = merge_next.bundle_id AND x.state = 'held' AND x.held_kind NOT IN ('future_commit', 'invalid_commit', 'not_a_writer');
            EXCEPTION
                WHEN lock_not_available OR deadlock_detected OR serialization_failure OR query_canceled OR admin_shutdown OR insufficient_resources THEN
                    RAISE;  -- a merge always yields: the caller rolls back and tries again (merge rule 8)
                WHEN OTHERS THEN
                    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, message_detail = PG_EXCEPTION_DETAIL, message_state = RETURNED_SQLSTATE;
                    outcome := 'held';
                    detail := message || CASE WHEN message_detail <> '' THEN '. ' || message_detail ELSE '' END;
                    PERFORM peer_internal.hold(c.commit_no,
                        CASE WHEN message_state LIKE '23%' THEN 'constraint_violation' WHEN message_state LIKE 'PGS%' OR message_state = '42P16' THEN 'schema_mismatch'
                             WHEN message_state = 'PGM01' THEN 'invalid_commit' WHEN message_state = '42501' THEN 'missing_right' ELSE 'held_commit' END,
                        detail, clock_timestamp() + (SELECT x.hold_retry_interval FROM peer.config AS x));
            END;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION peer_internal.merge_next(uuid, int) IS 'Merges complete commits whose parents are merged, in order, each atomically; what cannot be merged is held with its reason and only its descendants wait.';

CREATE OR REPLACE FUNCTION peer_internal.hold(commit_no bigint, kind text, detail text, retry_at timestamptz) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.commit AS c
       SET state = 'held', held_since = coalesce(c.held_since, clock_timestamp()), held_kind = hold.kind, held_detail = hold.detail,
           -- an invalid commit never becomes valid
           retry_at = CASE WHEN hold.kind = 'invalid_commit' THEN 'infinity' ELSE hold.retry_at END
     WHERE c.commit_no = hold.commit_no
$$;
COMMENT ON FUNCTION peer_internal.hold(bigint, text, text, timestamptz) IS 'Sets a commit aside with the reason why it could not be merged (merge rule 13).';
