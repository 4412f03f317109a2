-- Grants: stored for good, and asked for by people here. The worker verifies, signs and reads them.

CREATE OR REPLACE FUNCTION peer_internal.authority(bundle_id uuid, creator bytea DEFAULT NULL) RETURNS bytea
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result bytea;
BEGIN
    SELECT r.creator INTO result FROM peer_internal.roster AS r WHERE r.bundle_id = authority.bundle_id;
    IF FOUND THEN
        RETURN result;
    END IF;
    result := authority.creator;
    IF result IS NULL AND NOT EXISTS (SELECT FROM peer_internal.join_request AS j WHERE j.bundle_id = authority.bundle_id AND j.state IN ('accepted', 'joined')) THEN
        SELECT i.public_key INTO result FROM peer_internal.identity AS i;
    END IF;
    IF result IS NOT NULL THEN
        INSERT INTO peer_internal.roster (bundle_id, creator) VALUES (authority.bundle_id, result) ON CONFLICT ON CONSTRAINT roster_pkey DO NOTHING;
    END IF;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.authority(uuid, bytea) IS
    'The public key that made a bundle: what is known, else what is told (only the first time counts), else this database if the bundle was not joined. NULL: not known.';

CREATE OR REPLACE FUNCTION peer_internal.store_grant(bundle_id uuid, digest bytea, record bytea, issuer text, seq bigint, told_by text) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF sha256(substr(store_grant.record, 65)) <> store_grant.digest THEN
        RAISE EXCEPTION 'a grant does not have the digest that was claimed' USING ERRCODE = 'PGM01', HINT = 'The peer that sent it is broken or hostile. Nothing was changed.';
    END IF;
    INSERT INTO peer_internal.bundle_grant (bundle_id, digest, record, issuer, seq, told_by)
    VALUES (store_grant.bundle_id, store_grant.digest, store_grant.record, store_grant.issuer, store_grant.seq, store_grant.told_by)
    ON CONFLICT ON CONSTRAINT bundle_grant_pkey DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE peer_internal.roster AS r SET grant_count = r.grant_count + 1 WHERE r.bundle_id = store_grant.bundle_id;
    RETURN true;
END
$$;
COMMENT ON FUNCTION peer_internal.store_grant(uuid, bytea, bytea, text, bigint, text) IS 'Stores a grant whose signature the caller has verified. False: it was here already.';

CREATE OR REPLACE FUNCTION peer_internal.grants(bundle_id uuid) RETURNS TABLE (record bytea)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT g.record FROM peer_internal.bundle_grant AS g WHERE g.bundle_id = grants.bundle_id ORDER BY g.received_at, g.digest
$$;
COMMENT ON FUNCTION peer_internal.grants(uuid) IS 'All grants of a bundle that are known here.';

CREATE OR REPLACE FUNCTION peer_internal.request_role(bundle_id uuid, subject bytea, role text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM peer_internal.grant_request AS q WHERE q.bundle_id = request_role.bundle_id AND q.subject = request_role.subject;
    INSERT INTO peer_internal.grant_request (bundle_id, subject, role) VALUES (request_role.bundle_id, request_role.subject, request_role.role);
    PERFORM pg_notify('pgpeer_config', '');
END
$$;
COMMENT ON FUNCTION peer_internal.request_role(uuid, bytea, text) IS 'Asks the worker to sign a grant; it takes the place of one about the same peer that is not signed yet.';

CREATE OR REPLACE FUNCTION peer_internal.last_commits(bundle_id uuid, author bytea) RETURNS bytea[]
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(v.head), '{}')
      FROM (SELECT x.head FROM peer_internal.vector(last_commits.bundle_id, 'merged') AS x WHERE x.author = last_commits.author ORDER BY x.epoch DESC, x.seq DESC LIMIT 64) AS v
$$;
COMMENT ON FUNCTION peer_internal.last_commits(uuid, bytea) IS 'The last merged commits of an author: what an admin vouches for when it takes the right to write.';

CREATE OR REPLACE FUNCTION peer_internal.open_grant_requests() RETURNS TABLE (request_id bigint, bundle_id uuid, creator bytea, subject text, role text, fence bytea[])
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT q.request_id, q.bundle_id, peer_internal.authority(q.bundle_id), peer_internal.peer_id(q.subject), q.role,
           CASE WHEN q.role IN ('removed', 'reader') THEN peer_internal.last_commits(q.bundle_id, q.subject) ELSE '{}' END
      FROM peer_internal.grant_request AS q ORDER BY q.request_id
$$;
COMMENT ON FUNCTION peer_internal.open_grant_requests() IS 'The grants that wait for a signature, with what they shall say.';

CREATE OR REPLACE FUNCTION peer_internal.close_grant_request(request_id bigint) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM peer_internal.grant_request AS q WHERE q.request_id = close_grant_request.request_id
$$;
COMMENT ON FUNCTION peer_internal.close_grant_request(bigint) IS 'A grant was signed, or cannot be.';
