-- What the worker does with commits, in as few round trips as possible: seal and sign, send, receive and merge.

CREATE OR REPLACE FUNCTION peer_internal.worker_seal(bundle_id uuid, max_bytes bigint)
RETURNS TABLE (digest bytea, epoch bigint, seq bigint, "position" bigint, position_before bigint, header bytea, section_count int, data text[])
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- not flushed here: a seal that a crash takes back leaves its changes in the journal, and nothing leaves before it is
    -- signed, which flushes both
    PERFORM set_config('synchronous_commit', 'off', true);
    -- never long with the bundle's lock in hand: who holds a table (ALTER TABLE) may want to commit next (merge rule 8)
    PERFORM peer_internal.enter_bundle(worker_seal.bundle_id);
    PERFORM peer_internal.bound_waiting(peer_internal.waiting_deadline());
    PERFORM peer_internal.seal_bundle(worker_seal.bundle_id);
    RETURN QUERY
    SELECT c.digest, c.epoch, c.seq, c.position,
           coalesce((SELECT max(p.position) FROM peer_internal.commit AS p
                         WHERE p.bundle_id = c.bundle_id AND p.state = 'merged' AND p.position < c.position), 0), c.header, c.section_count,
           CASE WHEN octet_length(c.header) + coalesce(d.byte_count, 0) <= worker_seal.max_bytes
                THEN ARRAY(SELECT s.data FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no ORDER BY s.section_no) END
      FROM peer_internal.commit AS c
      JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.identity AS i ON i.public_key = a.public_key
     CROSS JOIN LATERAL (SELECT sum(s.byte_count) AS byte_count FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no) AS d
     WHERE c.bundle_id = worker_seal.bundle_id AND c.signature IS NULL AND c.state = 'merged'
     ORDER BY c.position LIMIT 100;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_seal(uuid, bigint) IS 'Seals a bundle and returns its commits that wait for their signature, in order, with their sections when they are small. Not flushed to disk: peer_internal.worker_sign does that.';

CREATE OR REPLACE FUNCTION peer_internal.worker_unsigned(bundle_id uuid)
RETURNS TABLE (digest bytea, epoch bigint, seq bigint, "position" bigint, position_before bigint, header bytea, section_count int, data text[])
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.digest, c.epoch, c.seq, c.position,
           coalesce((SELECT max(p.position) FROM peer_internal.commit AS p
                         WHERE p.bundle_id = c.bundle_id AND p.state = 'merged' AND p.position < c.position), 0), c.header, c.section_count, NULL::text[]
      FROM peer_internal.commit AS c
      JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.identity AS i ON i.public_key = a.public_key
     WHERE c.bundle_id = worker_unsigned.bundle_id AND c.signature IS NULL AND c.state = 'merged'
     ORDER BY c.position LIMIT 100
$$;
COMMENT ON FUNCTION peer_internal.worker_unsigned(uuid) IS 'The commits of a bundle that wait for their signature, in order, without their sections. Seals nothing.';

CREATE OR REPLACE FUNCTION peer_internal.worker_sign(digests bytea[], signatures bytea[]) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.commit AS c SET signature = s.signature
      FROM unnest(worker_sign.digests, worker_sign.signatures) AS s(digest, signature)
     WHERE c.digest = s.digest AND c.signature IS NULL
$$;
COMMENT ON FUNCTION peer_internal.worker_sign(bytea[], bytea[]) IS 'Stores the Ed25519 signatures of commits that were made here.';

CREATE OR REPLACE FUNCTION peer_internal.worker_page(bundle_id uuid, vector jsonb, after_position bigint, max_commits int)
RETURNS TABLE ("position" bigint, digest bytea, header bytea, signature bytea, section_count int)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- never past an unsigned commit: what comes after it would be sent, and the unsigned one then skipped for good
    WITH border AS MATERIALIZED (
        SELECT coalesce((SELECT min(c.position) - 1 FROM peer_internal.commit AS c
                          WHERE c.bundle_id = worker_page.bundle_id AND c.signature IS NULL AND c.state = 'merged'),
                        (SELECT max(c.position) FROM peer_internal.commit AS c WHERE c.bundle_id = worker_page.bundle_id AND c.state = 'merged'), 0) AS position),
    found AS MATERIALIZED (
        SELECT p.* FROM border AS b, peer_internal.commits_after(worker_page.bundle_id, worker_page.vector, worker_page.after_position, worker_page.max_commits) AS p
         WHERE p.position <= b.position)
    SELECT p.position, p.digest, p.header, p.signature, p.section_count FROM found AS p
    UNION ALL
    SELECT greatest(CASE WHEN (SELECT count(*) FROM found) < worker_page.max_commits THEN b.position ELSE (SELECT max(f.position) FROM found AS f) END, worker_page.after_position),
           NULL, NULL, NULL, NULL
      FROM border AS b
     ORDER BY 1, 2 NULLS LAST
$$;
COMMENT ON FUNCTION peer_internal.worker_page(uuid, jsonb, bigint, int) IS 'The next signed merged commits that a peer with this vector lacks, parents first, up to the first unsigned one. A last row without digest tells the position up to which nothing else is lacking.';

CREATE OR REPLACE FUNCTION peer_internal.vector_json(bundle_id uuid, which text) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object('author', encode(v.author, 'hex'), 'epoch', v.epoch, 'seq', v.seq, 'head', encode(v.head, 'hex'))), '[]')
      FROM peer_internal.vector(vector_json.bundle_id, vector_json.which) AS v
$$;
COMMENT ON FUNCTION peer_internal.vector_json(uuid, text) IS 'peer_internal.vector as a JSON array of objects with author and head in hexadecimal.';

CREATE OR REPLACE FUNCTION peer_internal.worker_merge(bundle_id uuid, max_commits int) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    merged_count int;
    all_count int;
    held jsonb;
BEGIN
    SELECT count(*) FILTER (WHERE m.outcome = 'merged'), count(*),
           coalesce(jsonb_agg(jsonb_build_object('digest', encode(m.digest, 'hex'), 'detail', m.detail)) FILTER (WHERE m.outcome <> 'merged'), '[]')
      INTO merged_count, all_count, held
      FROM peer_internal.merge_next(worker_merge.bundle_id, worker_merge.max_commits) AS m;
    IF held <> '[]' THEN
        -- a statement of its own: the one before does not see what it did
        SELECT jsonb_agg(h.item || jsonb_build_object('kind', c.held_kind, 'author', a.peer_id, 'is_new', c.held_since >= transaction_timestamp())) INTO held
          FROM jsonb_array_elements(held) AS h(item) JOIN peer_internal.commit AS c ON c.digest = decode(h.item ->> 'digest', 'hex') JOIN peer_internal.author AS a USING (author_id);
    END IF;
    RETURN jsonb_build_object('merged', merged_count, 'held', held, 'more', all_count >= worker_merge.max_commits,
        'vector', CASE WHEN merged_count > 0 THEN peer_internal.vector_json(worker_merge.bundle_id, 'merged') END,
        'unsigned', EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.bundle_id = worker_merge.bundle_id AND c.signature IS NULL AND c.state = 'merged'));
END
$$;
COMMENT ON FUNCTION peer_internal.worker_merge(uuid, int) IS 'Merges what can be merged now and tells: how many, what is held and why, whether there is more, the merged vector, and whether commits wait for a signature.';

CREATE OR REPLACE FUNCTION peer_internal.worker_receive(bundle_id uuid, commits jsonb, data text[], merge_commits int) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    n int;
    data_no int := 0;
BEGIN
    FOR item IN SELECT x.item FROM jsonb_array_elements(worker_receive.commits) WITH ORDINALITY AS x(item, n) ORDER BY x.n LOOP
        IF peer_internal.receive_commit(worker_receive.bundle_id, decode(item ->> 'digest', 'hex'), decode(item ->> 'header', 'hex'), decode(item ->> 'signature', 'hex'),
               decode(item ->> 'author', 'hex'), (item ->> 'epoch')::bigint, (item ->> 'seq')::bigint, decode(item ->> 'previous', 'hex'),
               ARRAY(SELECT decode(p.id, 'hex') FROM jsonb_array_elements_text(item -> 'parents') WITH ORDINALITY AS p(id, n) ORDER BY p.n),
               (item ->> 'hlc')::bigint, decode(item ->> 'schema', 'hex'), item ->> 'message', item -> 'sections') = 'known' THEN
            data_no := data_no + jsonb_array_length(item -> 'sections');
            CONTINUE;
        END IF;
        FOR n IN 1..jsonb_array_length(item -> 'sections') LOOP
            data_no := data_no + 1;
            PERFORM peer_internal.receive_section(decode(item ->> 'digest', 'hex'), n, worker_receive.data[data_no]);
        END LOOP;
    END LOOP;
    IF merge_commits = 0 THEN
        -- nothing is acknowledged before it is merged, which flushes
        PERFORM set_config('synchronous_commit', 'off', true);
        RETURN NULL;
    END IF;
    RETURN peer_internal.worker_merge(worker_receive.bundle_id, merge_commits);
END
$$;
COMMENT ON FUNCTION peer_internal.worker_receive(uuid, jsonb, text[], int) IS 'Stores small whole commits from a peer, whose signatures the caller has verified, and merges up to so many at once. data: all their sections, in order.';

CREATE OR REPLACE FUNCTION peer_internal.worker_incomplete(bundle_id uuid) RETURNS TABLE (digest bytea, section_nos int[])
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.digest, array_agg(i.section_no ORDER BY i.section_no) FROM peer_internal.incomplete(worker_incomplete.bundle_id) AS i GROUP BY i.digest
$$;
COMMENT ON FUNCTION peer_internal.worker_incomplete(uuid) IS 'The sections that are here of each commit that is not complete.';
