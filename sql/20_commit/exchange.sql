-- What the worker asks of the history: what to sign, what is here, what a peer lacks.

CREATE OR REPLACE FUNCTION peer_internal.unsigned_commit(max_commits int DEFAULT 100)
RETURNS TABLE (bundle_id uuid, digest bytea, header bytea, epoch bigint, seq bigint)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.bundle_id, c.digest, c.header, c.epoch, c.seq
      FROM peer_internal.commit AS c JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.identity AS i ON i.public_key = a.public_key
     WHERE c.signature IS NULL AND c.state = 'merged' ORDER BY c.position LIMIT max_commits
$$;
COMMENT ON FUNCTION peer_internal.unsigned_commit(int) IS 'Commits made here that wait for their signature, in order. Unsigned commits never leave.';

CREATE OR REPLACE FUNCTION peer_internal.attach_signature(digest bytea, signature bytea) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.commit AS c SET signature = attach_signature.signature WHERE c.digest = attach_signature.digest AND c.signature IS NULL
$$;
COMMENT ON FUNCTION peer_internal.attach_signature(bytea, bytea) IS 'Stores the Ed25519 signature of a commit that was made here.';

CREATE OR REPLACE FUNCTION peer_internal.vector(bundle_id uuid, which text DEFAULT 'merged')
RETURNS TABLE (author bytea, epoch bigint, seq bigint, head bytea)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- merged: the last signed commit of each lane. stored: that, and what follows it without a gap and is complete.
    WITH RECURSIVE last AS (
        SELECT a.public_key, l.epoch, c.seq, c.digest
          FROM peer_internal.lane AS l
          JOIN peer_internal.author AS a USING (author_id)
         CROSS JOIN LATERAL (SELECT d.seq, d.digest FROM peer_internal.commit AS d
                              WHERE d.bundle_id = l.bundle_id AND d.lane = l.lane AND d.state = 'merged' AND d.signature IS NOT NULL
                              ORDER BY d.seq DESC LIMIT 1) AS c
         WHERE l.bundle_id = vector.bundle_id),
    pending AS MATERIALIZED (
        SELECT a.public_key, c.epoch, c.seq, c.digest, c.previous
          FROM peer_internal.commit AS c JOIN peer_internal.author AS a USING (author_id)
         WHERE vector.which = 'stored' AND c.bundle_id = vector.bundle_id AND c.state IN ('received', 'held')
           AND NOT EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = c.commit_no AND s.data IS NULL)),
    run AS (
        SELECT l.public_key, l.epoch, l.seq, l.digest FROM last AS l
        UNION ALL
        SELECT p.public_key, p.epoch, p.seq, p.digest FROM pending AS p WHERE p.previous IS NULL
        UNION ALL
        SELECT p.public_key, p.epoch, p.seq, p.digest FROM run AS r JOIN pending AS p ON p.previous = r.digest)
    SELECT r.public_key, r.epoch, r.seq, r.digest FROM run AS r
     WHERE NOT EXISTS (SELECT FROM pending AS p WHERE p.previous = r.digest)
$$;
COMMENT ON FUNCTION peer_internal.vector(uuid, text) IS 'The version vector of a bundle, with the id of each last commit: of what is merged here, or of what is stored.';

CREATE OR REPLACE FUNCTION peer_internal.known_ancestry(bundle_id uuid, vector jsonb) RETURNS bigint[]
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    head record;
    heads bigint[] := '{}';
    l record;
    result bigint[];
BEGIN
    -- A head that is known here says exactly what the peer has, for all lanes in its ancestry. An unknown head at or past our
    -- last seq: the peer is ahead. An unknown head before it: a fork, which counts for nothing.
    FOR item IN SELECT jsonb_array_elements(known_ancestry.vector) LOOP
        SELECT c.commit_no INTO head FROM peer_internal.commit AS c
         WHERE c.digest = decode(item ->> 'head', 'hex') AND c.bundle_id = known_ancestry.bundle_id AND c.state = 'merged';
        IF FOUND THEN
            heads := heads || head.commit_no;
        END IF;
    END LOOP;
    result := coalesce(peer_internal.merged_ancestry(heads), '{}');
    FOR item IN SELECT jsonb_array_elements(known_ancestry.vector) LOOP
        CONTINUE WHEN EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.digest = decode(item ->> 'head', 'hex') AND c.state = 'merged');
        FOR l IN SELECT x.lane, (SELECT d.seq FROM peer_internal.commit AS d WHERE d.bundle_id = x.bundle_id AND d.lane = x.lane AND d.state = 'merged'
                                  ORDER BY d.seq DESC LIMIT 1) AS last_seq
                   FROM peer_internal.lane AS x JOIN peer_internal.author AS a USING (author_id)
                  WHERE x.bundle_id = known_ancestry.bundle_id AND x.epoch = (item ->> 'epoch')::bigint AND a.public_key = decode(item ->> 'author', 'hex')
        LOOP
            IF (item ->> 'seq')::bigint >= l.last_seq THEN
                result := peer_internal.with_lane(result, l.lane, greatest((item ->> 'seq')::bigint, coalesce(result[l.lane], 0)));
            END IF;
        END LOOP;
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.known_ancestry(uuid, jsonb) IS 'What a peer with this vector has, as an ancestry in the lanes of this database.';

CREATE OR REPLACE FUNCTION peer_internal.commits_after(bundle_id uuid, vector jsonb, after_position bigint DEFAULT 0, max_commits int DEFAULT 100)
RETURNS TABLE ("position" bigint, digest bytea, header bytea, signature bytea, section_count int)
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known bigint[] := peer_internal.known_ancestry(commits_after.bundle_id, commits_after.vector);
BEGIN
    IF after_position > 0 THEN
        -- later pages go on along the order of merging: what follows is mostly lacked
        RETURN QUERY
        SELECT c.position, c.digest, c.header, c.signature, c.section_count
          FROM peer_internal.commit AS c
         WHERE c.bundle_id = commits_after.bundle_id AND c.position > commits_after.after_position AND c.state = 'merged'
           AND c.seq > coalesce(known[c.lane], 0) AND c.signature IS NOT NULL
         ORDER BY c.position LIMIT max_commits;
    ELSE
        -- the first page looks at the end of each lane: a peer in step lacks nothing of a long history
        RETURN QUERY
        SELECT c.position, c.digest, c.header, c.signature, c.section_count
          FROM peer_internal.lane AS l
         CROSS JOIN LATERAL (SELECT d.* FROM peer_internal.commit AS d
                              WHERE d.bundle_id = l.bundle_id AND d.lane = l.lane AND d.seq > coalesce(known[l.lane], 0) AND d.state = 'merged' AND d.signature IS NOT NULL
                              ORDER BY d.seq LIMIT max_commits) AS c
         WHERE l.bundle_id = commits_after.bundle_id
         ORDER BY c.position LIMIT max_commits;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.commits_after(uuid, jsonb, bigint, int) IS 'Signed merged commits that a peer with this vector lacks, parents first, merged here after a position.';

CREATE OR REPLACE FUNCTION peer_internal.section_data(digest bytea, section_no int) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.data FROM peer_internal.section AS s JOIN peer_internal.commit AS c USING (commit_no)
     WHERE c.digest = section_data.digest AND s.section_no = section_data.section_no
$$;
COMMENT ON FUNCTION peer_internal.section_data(bytea, int) IS 'The bytes of a section.';

CREATE OR REPLACE FUNCTION peer_internal.incomplete(bundle_id uuid) RETURNS TABLE (digest bytea, section_no int)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.digest, s.section_no
      FROM peer_internal.commit AS c JOIN peer_internal.section AS s USING (commit_no)
     WHERE c.bundle_id = incomplete.bundle_id AND c.state = 'received' AND s.data IS NOT NULL
       AND EXISTS (SELECT FROM peer_internal.section AS x WHERE x.commit_no = c.commit_no AND x.data IS NULL)
$$;
COMMENT ON FUNCTION peer_internal.incomplete(uuid) IS 'Sections that are here of commits that are not complete: a peer need not send them again.';
