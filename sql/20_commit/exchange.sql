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

CREATE OR REPLACE FUNCTION peer_internal.commits_after(bundle_id uuid, vector jsonb, after_position bigint DEFAULT 0, max_commits int DEFAULT 100)
RETURNS TABLE ("position" bigint, digest bytea, header bytea, signature bytea, section_count int)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- Per lane, the seq up to which the peer has it. A head that is known here says it exactly, for all lanes in its
    -- ancestry. An unknown head at or past our last seq: the peer is ahead. An unknown head before it: a fork, send all.
    WITH entry AS (
        SELECT decode(v.item ->> 'author', 'hex') AS author, (v.item ->> 'epoch')::bigint AS epoch, (v.item ->> 'seq')::bigint AS seq,
               decode(v.item ->> 'head', 'hex') AS head
          FROM jsonb_array_elements(commits_after.vector) AS v(item)),
    lane_known AS (
        SELECT l.lane, greatest(
                   coalesce((SELECT max(coalesce(h.ancestry[l.lane], 0)) FROM entry AS e
                               JOIN peer_internal.commit AS h ON h.digest = e.head AND h.bundle_id = l.bundle_id AND h.state = 'merged'), 0),
                   coalesce((SELECT max(e.seq) FROM entry AS e
                              WHERE e.author = a.public_key AND e.epoch = l.epoch
                                AND NOT EXISTS (SELECT FROM peer_internal.commit AS h WHERE h.digest = e.head AND h.state = 'merged')
                                AND e.seq >= (SELECT max(d.seq) FROM peer_internal.commit AS d WHERE d.bundle_id = l.bundle_id AND d.lane = l.lane AND d.state = 'merged')), 0)) AS seq
          FROM peer_internal.lane AS l JOIN peer_internal.author AS a USING (author_id)
         WHERE l.bundle_id = commits_after.bundle_id)
    SELECT c.position, c.digest, c.header, c.signature, c.section_count
      FROM lane_known AS k
      JOIN peer_internal.commit AS c ON c.bundle_id = commits_after.bundle_id AND c.lane = k.lane AND c.seq > k.seq AND c.state = 'merged'
     WHERE c.signature IS NOT NULL AND c.position > commits_after.after_position
     ORDER BY c.position LIMIT max_commits
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
