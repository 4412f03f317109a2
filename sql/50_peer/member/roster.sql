-- The roster as the worker read it out of the grants becomes the members of a bundle.

CREATE OR REPLACE FUNCTION peer_internal.set_roster(bundle_id uuid, grant_count bigint, peer_ids text[], roles text[], counted bytea[], fence bytea[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
    change record;
    changed boolean := false;
BEGIN
    -- what was read while further grants came is read again; one reading at a time
    PERFORM 1 FROM peer_internal.roster AS r WHERE r.bundle_id = set_roster.bundle_id AND r.grant_count = set_roster.grant_count FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT b.name INTO STRICT name FROM peer_internal.bundle AS b WHERE b.bundle_id = set_roster.bundle_id;
    FOR change IN
        WITH told AS (
            SELECT t.peer_id, peer_internal.public_key(t.peer_id) AS public_key, t.role FROM unnest(peer_ids, roles) AS t(peer_id, role)),
        known AS (
            SELECT a.peer_id, a.public_key, m.role, m.state FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
             WHERE m.bundle_id = set_roster.bundle_id)
        SELECT coalesce(t.peer_id, k.peer_id) AS peer_id, coalesce(t.public_key, k.public_key) AS public_key, coalesce(t.role, 'removed') AS role,
               k.role AS old_role, k.state AS old_state
          FROM told AS t FULL JOIN known AS k USING (peer_id)
         WHERE coalesce(t.public_key, k.public_key) IS NOT NULL
           -- taken in here, and the worker has not signed it yet
           AND NOT (t.peer_id IS NULL AND EXISTS (SELECT FROM peer_internal.grant_request AS q WHERE q.bundle_id = set_roster.bundle_id AND q.subject = k.public_key))
         ORDER BY 1
    LOOP
        CONTINUE WHEN change.role = CASE change.old_state WHEN 'active' THEN change.old_role ELSE 'removed' END AND change.old_state IS NOT NULL;
        changed := true;
        INSERT INTO peer_internal.member (bundle_id, author_id, role, state)
        VALUES (set_roster.bundle_id, peer_internal.author_id(change.public_key), CASE change.role WHEN 'removed' THEN coalesce(change.old_role, 'reader') ELSE change.role END,
                CASE change.role WHEN 'removed' THEN 'removed' ELSE 'active' END)
        ON CONFLICT ON CONSTRAINT member_pkey DO UPDATE SET role = EXCLUDED.role, state = EXCLUDED.state;
        IF change.old_state = 'active' AND change.role = 'removed' THEN
            PERFORM peer_internal.announce('member-removed', change.peer_id, name, NULL, NULL, NULL, NULL, 'It is no member any more.', NULL);
        ELSIF change.old_state = 'active' THEN
            PERFORM peer_internal.announce('role-changed', change.peer_id, name, NULL, NULL, NULL, NULL, format('It is %s now; it was %s.', change.role, change.old_role), NULL);
        ELSIF change.role <> 'removed' AND change.peer_id IS DISTINCT FROM peer.identity() THEN
            PERFORM peer_internal.announce('member-introduced', change.peer_id, name, NULL, NULL, NULL, NULL, format('It is %s.', change.role), NULL);
        END IF;
    END LOOP;
    UPDATE peer_internal.bundle_grant AS g SET counts = g.digest = ANY (set_roster.counted)
     WHERE g.bundle_id = set_roster.bundle_id AND g.counts <> (g.digest = ANY (set_roster.counted));
    UPDATE peer_internal.roster AS r SET is_enforced = set_roster.counted <> '{}', fence = set_roster.fence, read_count = set_roster.grant_count, read_at = clock_timestamp() WHERE r.bundle_id = set_roster.bundle_id;
    PERFORM peer_internal.retry_vouched(set_roster.bundle_id);
    RETURN true;
END
$$;
COMMENT ON FUNCTION peer_internal.set_roster(uuid, bigint, text[], text[], bytea[], bytea[]) IS
    'Makes members of what so many grants say. Who is not named is no member. False: more grants have come meanwhile, read again.';

CREATE OR REPLACE FUNCTION peer_internal.own_role(bundle_id uuid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN peer_internal.is_enforced(own_role.bundle_id)
                THEN (SELECT CASE m.state WHEN 'active' THEN m.role ELSE 'removed' END FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
                        JOIN peer_internal.identity AS i ON i.public_key = a.public_key WHERE m.bundle_id = own_role.bundle_id)
                WHEN EXISTS (SELECT FROM peer_internal.join_request AS j WHERE j.bundle_id = own_role.bundle_id AND j.state IN ('accepted', 'joined')) THEN 'writer'
                ELSE 'admin' END
$$;
COMMENT ON FUNCTION peer_internal.own_role(uuid) IS 'The role of this database in a bundle; ''removed'' or NULL when it has none.';

CREATE OR REPLACE FUNCTION peer_internal.is_unvouched_head(bundle_id uuid, commit_no bigint) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.is_enforced AND NOT peer_internal.may_write(c.bundle_id, c.author_id) AND NOT c.digest = ANY (r.fence)
      FROM peer_internal.commit AS c JOIN peer_internal.roster AS r USING (bundle_id)
     WHERE c.bundle_id = is_unvouched_head.bundle_id AND c.commit_no = is_unvouched_head.commit_no
$$;
COMMENT ON FUNCTION peer_internal.is_unvouched_head(uuid, bigint) IS 'Whether a merged commit that nothing was built upon is one that members which lack it would not take.';
