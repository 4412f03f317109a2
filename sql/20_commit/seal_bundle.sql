-- Sealing: uncommitted changes become a commit.

CREATE OR REPLACE FUNCTION peer_internal.lock_key() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 1885826160  -- 'pgpp': the first half of every advisory lock of pgpeer
$$;
COMMENT ON FUNCTION peer_internal.lock_key() IS 'First half of the two-part advisory locks of pgpeer; the second is the bundle number, or 0 for the worker.';

CREATE OR REPLACE FUNCTION peer_internal.lock_bundle(bundle_id uuid) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_advisory_lock(peer_internal.lock_key(), b.bundle_number) FROM peer_internal.bundle AS b WHERE b.bundle_id = lock_bundle.bundle_id
$$;
COMMENT ON FUNCTION peer_internal.lock_bundle(uuid) IS 'Takes the bundle lock for the session. Call it before BEGIN (merge rule 6).';

CREATE OR REPLACE FUNCTION peer_internal.unlock_bundle(bundle_id uuid) RETURNS boolean
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_advisory_unlock(peer_internal.lock_key(), b.bundle_number) FROM peer_internal.bundle AS b WHERE b.bundle_id = unlock_bundle.bundle_id
$$;
COMMENT ON FUNCTION peer_internal.unlock_bundle(uuid) IS 'Releases what peer_internal.lock_bundle took.';

CREATE OR REPLACE FUNCTION peer_internal.enter_bundle(bundle_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'commits can only be made under READ COMMITTED' USING ERRCODE = 'PGC01',
            DETAIL = format('This transaction is %s: its snapshot may be older than the lock, and changes would be missed.', upper(current_setting('transaction_isolation'))),
            HINT = 'Run it in a READ COMMITTED transaction of its own.';
    END IF;
    PERFORM pg_advisory_xact_lock(peer_internal.lock_key(), b.bundle_number) FROM peer_internal.bundle AS b WHERE b.bundle_id = enter_bundle.bundle_id;
END
$$;
COMMENT ON FUNCTION peer_internal.enter_bundle(uuid) IS 'Takes the bundle lock until the transaction ends and refuses snapshots that would miss changes (merge rule 6).';

CREATE OR REPLACE FUNCTION peer_internal.journal_numbers(bundle_id uuid) RETURNS int[]
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    statement text;
    result int[];
BEGIN
    SELECT string_agg(format('SELECT %1$s AS n WHERE EXISTS (SELECT FROM peer_internal.journal_%1$s)', r.relation_number), ' UNION ALL ')
      INTO statement FROM peer_internal.relation AS r WHERE r.bundle_id = journal_numbers.bundle_id AND r.is_tracked;
    IF statement IS NULL THEN
        RETURN '{}';
    END IF;
    EXECUTE format('SELECT coalesce(array_agg(j.n), ''{}'') FROM (%s) AS j', statement) INTO result;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.journal_numbers(uuid) IS 'Which relations of a bundle have visible uncommitted changes.';

CREATE OR REPLACE FUNCTION peer_internal.seal_sections(bundle_id uuid, commit_no bigint, only_relation uuid DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET row_security = off
SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET lc_monetary = 'C' SET xmloption = 'content'
AS $$
DECLARE
    all_numbers int[];
    numbers int[];
    rows_max bigint;
    bytes_max bigint;
    schema_count int;
    is_missed boolean;
    made_count bigint;
    made_rows bigint;
BEGIN
    SELECT c.section_rows_max, c.section_bytes_max INTO STRICT rows_max, bytes_max FROM peer.config AS c;
    WITH taken AS (
        DELETE FROM peer_internal.pending_schema AS p USING peer_internal.relation AS r
         WHERE r.relation_id = p.relation_id AND r.bundle_id = seal_sections.bundle_id
           AND (only_relation IS NULL OR r.relation_id = only_relation)
        RETURNING p.relation_id, p.data || E'\n' AS data)
    INSERT INTO peer_internal.section (commit_no, section_no, relation_id, op, column_ids, row_count, byte_count, digest, data)
    SELECT seal_sections.commit_no, row_number() OVER (ORDER BY t.relation_id), t.relation_id, 'SCHEMA', '{}', 1, octet_length(t.data),
           sha256(convert_to(t.data, 'UTF8')), t.data
      FROM taken AS t;
    GET DIAGNOSTICS schema_count = ROW_COUNT;
    IF only_relation IS NULL THEN
        SELECT coalesce(array_agg(r.relation_number), '{}') INTO all_numbers
          FROM peer_internal.relation AS r WHERE r.bundle_id = seal_sections.bundle_id AND r.is_tracked;
        numbers := peer_internal.journal_numbers(seal_sections.bundle_id);
    ELSE
        SELECT array_agg(r.relation_number) INTO numbers FROM peer_internal.relation AS r WHERE r.relation_id = only_relation;
        all_numbers := numbers;
    END IF;
    WHILE numbers <> '{}' LOOP
        EXECUTE peer_internal.seal_statement(numbers, (SELECT coalesce(array_agg(a.n), '{}') FROM unnest(all_numbers) AS a(n) WHERE a.n <> ALL (numbers)))
           INTO is_missed, made_count, made_rows USING seal_sections.commit_no, rows_max, bytes_max, schema_count;
        IF NOT is_missed THEN
            RETURN schema_count + made_count > 0;
        END IF;
        numbers := peer_internal.journal_numbers(seal_sections.bundle_id);
    END LOOP;
    RETURN schema_count > 0;
END
$$;
COMMENT ON FUNCTION peer_internal.seal_sections(uuid, bigint, uuid) IS 'Takes the visible journal of a bundle (or of one relation) and stores its changes as sections of a commit. False when nothing changed.';

CREATE OR REPLACE FUNCTION peer_internal.own_lane(bundle_id uuid) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me record;
    result int;
BEGIN
    SELECT a.author_id, i.epoch INTO me FROM peer_internal.identity AS i JOIN peer_internal.author AS a ON a.public_key = i.public_key;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01',
            HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    -- the greatest lane: a lane of ours that was forked goes on where it ended last
    SELECT max(l.lane) INTO result FROM peer_internal.lane AS l
     WHERE l.bundle_id = own_lane.bundle_id AND l.author_id = me.author_id AND l.epoch = me.epoch;
    IF result IS NULL THEN
        INSERT INTO peer_internal.lane (bundle_id, lane, author_id, epoch)
        SELECT own_lane.bundle_id, coalesce(max(l.lane), 0) + 1, me.author_id, me.epoch FROM peer_internal.lane AS l WHERE l.bundle_id = own_lane.bundle_id
        RETURNING lane INTO result;
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.own_lane(uuid) IS 'The lane of this database''s author and epoch in a bundle, made when missing.';

CREATE OR REPLACE FUNCTION peer_internal.merged_ancestry(commit_nos bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cardinality(commit_nos) = 1 THEN
        RETURN (SELECT c.ancestry FROM peer_internal.commit AS c WHERE c.commit_no = commit_nos[1]);
    END IF;
    RETURN (SELECT coalesce(array_agg(m.seq ORDER BY m.lane), '{}')
              FROM (SELECT a.lane, max(a.seq) AS seq
                      FROM peer_internal.commit AS c CROSS JOIN LATERAL unnest(c.ancestry) WITH ORDINALITY AS a(seq, lane)
                     WHERE c.commit_no = ANY (commit_nos)
                     GROUP BY a.lane) AS m);
END
$$;
COMMENT ON FUNCTION peer_internal.merged_ancestry(bigint[]) IS 'The union of the ancestries of several commits.';

CREATE OR REPLACE FUNCTION peer_internal.with_lane(ancestry bigint[], lane int, seq bigint) RETURNS bigint[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(CASE WHEN g.n = lane THEN seq ELSE coalesce(ancestry[g.n], 0) END ORDER BY g.n)
      FROM generate_series(1, greatest(cardinality(ancestry), lane)) AS g(n)
$$;
COMMENT ON FUNCTION peer_internal.with_lane(bigint[], int, bigint) IS 'An ancestry with one lane set.';

CREATE OR REPLACE FUNCTION peer_internal.schema_fingerprint(bundle_id uuid) RETURNS bytea
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT sha256(convert_to(coalesce(string_agg(r.relation_id || ' ' || encode(sha256(convert_to(r.description::text, 'UTF8')), 'hex'), E'\n' ORDER BY r.relation_id), ''), 'UTF8'))
      FROM peer_internal.relation AS r WHERE r.bundle_id = schema_fingerprint.bundle_id
$$;
COMMENT ON FUNCTION peer_internal.schema_fingerprint(uuid) IS 'sha256 over the descriptions of all relations of a bundle.';

CREATE OR REPLACE FUNCTION peer_internal.become_head(commit_no bigint) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM peer_internal.head AS h USING peer_internal.commit AS c, peer_internal.commit AS p
     WHERE c.commit_no = become_head.commit_no AND p.digest = ANY (c.parents) AND h.bundle_id = c.bundle_id AND h.commit_no = p.commit_no;
    INSERT INTO peer_internal.head (bundle_id, commit_no)
    SELECT c.bundle_id, c.commit_no FROM peer_internal.commit AS c WHERE c.commit_no = become_head.commit_no;
$$;
COMMENT ON FUNCTION peer_internal.become_head(bigint) IS 'A merged commit takes the place of its parents among the heads.';

CREATE OR REPLACE FUNCTION peer_internal.seal_bundle(bundle_id uuid, message text DEFAULT NULL, only_relation uuid DEFAULT NULL) RETURNS bytea
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
    new_no bigint;
    own_lane int;
    me record;
    own_previous record;
    head_nos bigint[];
    parent_digests bytea[];
    new_hlc bigint;
    fingerprint bytea;
    header bytea;
    new_digest bytea;
    sections record;
BEGIN
    PERFORM peer_internal.enter_bundle(seal_bundle.bundle_id);
    PERFORM peer_internal.follow_partitions(seal_bundle.bundle_id);
    new_no := nextval(pg_get_serial_sequence('peer_internal.commit', 'commit_no'));
    IF NOT peer_internal.seal_sections(seal_bundle.bundle_id, new_no, only_relation) THEN
        PERFORM peer_internal.settle_clean(seal_bundle.bundle_id);
        RETURN NULL;
    END IF;
    own_lane := peer_internal.own_lane(seal_bundle.bundle_id);
    SELECT l.author_id, l.epoch, a.public_key INTO STRICT me
      FROM peer_internal.lane AS l JOIN peer_internal.author AS a USING (author_id)
     WHERE l.bundle_id = seal_bundle.bundle_id AND l.lane = own_lane;
    SELECT c.seq, c.digest INTO own_previous FROM peer_internal.commit AS c
     WHERE c.bundle_id = seal_bundle.bundle_id AND c.lane = own_lane AND c.state = 'merged' ORDER BY c.seq DESC LIMIT 1;
    SELECT coalesce(array_agg(h.commit_no), '{}'), coalesce(array_agg(c.digest ORDER BY c.digest), '{}') INTO head_nos, parent_digests
      FROM peer_internal.head AS h JOIN peer_internal.commit AS c USING (commit_no) WHERE h.bundle_id = seal_bundle.bundle_id;
    UPDATE peer_internal.bundle AS b SET last_hlc = greatest(b.last_hlc + 1, peer_internal.unix_milliseconds(clock_timestamp()) << 16)
     WHERE b.bundle_id = seal_bundle.bundle_id RETURNING b.last_hlc INTO STRICT new_hlc;
    fingerprint := peer_internal.schema_fingerprint(seal_bundle.bundle_id);
    header := peer_internal.encode_header(seal_bundle.bundle_id, me.public_key, me.epoch, coalesce(own_previous.seq, 0) + 1, own_previous.digest,
        parent_digests, new_hlc, fingerprint, message, peer_internal.encoded_sections(new_no));
    new_digest := sha256(header);
    SELECT count(*) AS section_count, coalesce(sum(s.row_count) FILTER (WHERE s.op <> 'SCHEMA'), 0) AS row_count, bool_or(s.unseen <> '{}') AS has_unseen
      INTO sections FROM peer_internal.section AS s WHERE s.commit_no = new_no;
    INSERT INTO peer_internal.commit (commit_no, bundle_id, digest, commit_id, author_id, epoch, seq, previous, parents, hlc, rank, schema_fingerprint, message,
                                      header, section_count, row_count, state, lane, ancestry, position)
    VALUES (new_no, seal_bundle.bundle_id, new_digest, peer_internal.commit_id(new_digest), me.author_id, me.epoch, coalesce(own_previous.seq, 0) + 1,
            own_previous.digest, parent_digests, new_hlc,
            peer_internal.rank(new_hlc, me.public_key, new_digest), fingerprint, message, header, sections.section_count, sections.row_count, 'merged', own_lane,
            peer_internal.with_lane(peer_internal.merged_ancestry(head_nos), own_lane, coalesce(own_previous.seq, 0) + 1),
            nextval('peer_internal.commit_position'));
    PERFORM peer_internal.become_head(new_no);
    IF sections.has_unseen THEN
        PERFORM peer_internal.settle_unseen(new_no);
    END IF;
    PERFORM peer_internal.settle_clean(seal_bundle.bundle_id);
    PERFORM peer_internal.settle_conflicts(new_no);
    -- what stood in the way of a held commit may be gone
    UPDATE peer_internal.commit AS c SET retry_at = clock_timestamp()
     WHERE c.bundle_id = seal_bundle.bundle_id AND c.state = 'held' AND c.held_kind NOT IN ('future_commit', 'invalid_commit');
    -- a transaction that notifies cannot be prepared: where that is possible the worker looks by itself
    IF current_setting('max_prepared_transactions') = '0' AND NOT (SELECT w.awake FROM peer_internal.worker AS w) THEN
        PERFORM pg_notify('pgpeer_commit', seal_bundle.bundle_id::text);
    END IF;
    RETURN new_digest;
END
$$;
COMMENT ON FUNCTION peer_internal.seal_bundle(uuid, text, uuid) IS 'Makes a commit of the visible uncommitted changes of a bundle. NULL when nothing changed. Holds the bundle lock until the transaction ends.';
