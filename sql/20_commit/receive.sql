-- Commits that come from peers: stored first, merged later. Bytes are checked, never trusted.

CREATE OR REPLACE FUNCTION peer_internal.author_id(public_key bytea) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result int;
BEGIN
    SELECT a.author_id INTO result FROM peer_internal.author AS a WHERE a.public_key = author_id.public_key;
    IF NOT FOUND THEN
        INSERT INTO peer_internal.author (public_key, peer_id) VALUES (author_id.public_key, peer_internal.peer_id(author_id.public_key))
        ON CONFLICT ON CONSTRAINT author_public_key_key DO UPDATE SET peer_id = EXCLUDED.peer_id
        RETURNING author.author_id INTO result;
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.author_id(bytea) IS 'The local number of an author, made when missing.';

CREATE OR REPLACE FUNCTION peer_internal.receive_commit(
    bundle_id uuid, digest bytea, header bytea, signature bytea, author bytea, epoch bigint, seq bigint, previous bytea, parents bytea[],
    hlc bigint, schema_fingerprint bytea, message text, sections jsonb
) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known record;
    new_no bigint;
BEGIN
    SELECT c.state, c.commit_no INTO known FROM peer_internal.commit AS c WHERE c.digest = receive_commit.digest;
    IF FOUND THEN
        -- one of our own that came back before it was signed here cannot be: unsigned commits never leave
        RETURN CASE WHEN known.state IN ('received', 'held') AND EXISTS (SELECT FROM peer_internal.section AS s WHERE s.commit_no = known.commit_no AND s.data IS NULL)
                    THEN 'incomplete' ELSE 'known' END;
    END IF;
    IF sha256(receive_commit.header) <> receive_commit.digest
       OR hlc < 0 OR epoch < 0 OR seq < 1 OR octet_length(author) <> 32 OR octet_length(schema_fingerprint) <> 32 THEN
        RAISE EXCEPTION 'a commit header does not have the digest that was claimed' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    new_no := nextval(pg_get_serial_sequence('peer_internal.commit', 'commit_no'));
    INSERT INTO peer_internal.section (commit_no, section_no, relation_id, op, column_ids, row_count, byte_count, digest, unseen)
    SELECT new_no, s.n, (s.item ->> 'relation')::uuid, s.item ->> 'op', ARRAY(SELECT x.id::uuid FROM jsonb_array_elements_text(s.item -> 'columns') WITH ORDINALITY AS x(id, n) ORDER BY x.n),
           (s.item ->> 'rows')::bigint, (s.item ->> 'bytes')::bigint, decode(s.item ->> 'digest', 'hex'),
           ARRAY(SELECT decode(x.id, 'hex') FROM jsonb_array_elements_text(s.item -> 'unseen') WITH ORDINALITY AS x(id, n) ORDER BY x.n)
      FROM jsonb_array_elements(receive_commit.sections) WITH ORDINALITY AS s(item, n);
    INSERT INTO peer_internal.commit (commit_no, bundle_id, digest, commit_id, author_id, epoch, seq, previous, parents, hlc, rank, schema_fingerprint, message,
                                      header, signature, section_count, row_count, state)
    SELECT new_no, receive_commit.bundle_id, receive_commit.digest, peer_internal.commit_id(receive_commit.digest), peer_internal.author_id(author), epoch, seq, previous,
           parents, hlc, peer_internal.rank(hlc, author, receive_commit.digest), schema_fingerprint, message, receive_commit.header, receive_commit.signature,
           count(*), coalesce(sum(s.row_count) FILTER (WHERE s.op <> 'SCHEMA'), 0), 'received'
      FROM peer_internal.section AS s WHERE s.commit_no = new_no
    ON CONFLICT ON CONSTRAINT commit_digest_key DO NOTHING;
    IF NOT FOUND THEN
        -- another link brought it at this moment: answer what is true now that its transaction is over
        DELETE FROM peer_internal.section AS s WHERE s.commit_no = new_no;
        RETURN peer_internal.receive_commit(bundle_id, receive_commit.digest, receive_commit.header, receive_commit.signature, author, epoch, seq, previous, parents,
                                            hlc, schema_fingerprint, message, receive_commit.sections);
    END IF;
    -- the fields that were passed must be the ones in the bytes: encode them again
    IF peer_internal.encode_header(receive_commit.bundle_id, author, epoch, seq, previous, parents, hlc, schema_fingerprint, message,
                                   peer_internal.encoded_sections(new_no)) <> receive_commit.header THEN
        RAISE EXCEPTION 'a commit header is not in canonical form' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    IF EXISTS (SELECT FROM unnest(receive_commit.parents) AS p(digest) JOIN peer_internal.commit AS d ON d.digest = p.digest WHERE d.hlc >= receive_commit.hlc) THEN
        RAISE EXCEPTION 'a commit is dated before one of its parents' USING ERRCODE = 'PGM01', HINT = 'Its author is broken or hostile. Nothing was changed.';
    END IF;
    RETURN CASE WHEN EXISTS (SELECT FROM unnest(receive_commit.parents) AS p(digest)
                              WHERE NOT EXISTS (SELECT FROM peer_internal.commit AS d WHERE d.digest = p.digest)) THEN 'waiting' ELSE 'new' END;
END
$$;
COMMENT ON FUNCTION peer_internal.receive_commit(uuid, bytea, bytea, bytea, bytea, bigint, bigint, bytea, bytea[], bigint, bytea, text, jsonb) IS
    'Stores a commit header from a peer, whose signature the caller has verified. Returns new, waiting (new, but a parent is not here yet), incomplete (known, sections missing) or known.';

CREATE OR REPLACE FUNCTION peer_internal.receive_section(digest bytea, section_no int, data text) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    lines text[];
BEGIN
    SELECT x.commit_no, x.row_count, x.digest, x.op, x.data IS NOT NULL AS is_here, r.key_count INTO s
      FROM peer_internal.commit AS c JOIN peer_internal.section AS x ON x.commit_no = c.commit_no
      LEFT JOIN peer_internal.relation AS r ON r.relation_id = x.relation_id
     WHERE c.digest = receive_section.digest AND x.section_no = receive_section.section_no;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a section belongs to no commit that is known here' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    IF s.is_here THEN
        RETURN false;
    END IF;
    IF sha256(convert_to(receive_section.data, 'UTF8')) <> s.digest THEN
        RAISE EXCEPTION 'a section does not have the digest that its commit names' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    lines := peer_internal.section_lines(receive_section.data);
    IF coalesce(cardinality(lines), 0) <> s.row_count THEN
        RAISE EXCEPTION 'a section does not have the number of rows that its commit names' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    UPDATE peer_internal.section AS x SET data = receive_section.data
     WHERE x.commit_no = s.commit_no AND x.section_no = receive_section.section_no;
    RETURN true;
END
$$;
COMMENT ON FUNCTION peer_internal.receive_section(bytea, int, text) IS 'Stores a section of a commit that is known here, after checking its digest. False: it was here already.';

CREATE OR REPLACE FUNCTION peer_internal.bound_sections(commit_no bigint) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- only known once the relation is; not read off the first and last line, because a peer may have sorted wrongly
    UPDATE peer_internal.section AS s
       SET first_key = k.first_key, last_key = k.last_key
      FROM peer_internal.section AS x
      JOIN peer_internal.relation AS r ON r.relation_id = x.relation_id
     CROSS JOIN LATERAL (SELECT min(peer_internal.key_text(l.line, r.key_count) COLLATE "C"), max(peer_internal.key_text(l.line, r.key_count) COLLATE "C")
                           FROM unnest(peer_internal.section_lines(x.data)) AS l(line)) AS k(first_key, last_key)
     WHERE s.commit_no = bound_sections.commit_no AND x.commit_no = s.commit_no AND x.section_no = s.section_no AND s.op <> 'SCHEMA' AND s.first_key IS NULL
$$;
COMMENT ON FUNCTION peer_internal.bound_sections(bigint) IS 'Sets first_key and last_key of received sections.';
