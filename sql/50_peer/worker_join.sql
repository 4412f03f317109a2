-- Joining a bundle, as the worker of the joining database does it.

CREATE OR REPLACE FUNCTION peer_internal.worker_join_accepted(request_id uuid, name text, commit_mode text, inviter_label text, goal jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j peer_internal.join_request;
BEGIN
    SELECT x.* INTO j FROM peer_internal.join_request AS x WHERE x.request_id = worker_join_accepted.request_id AND x.state = 'requested' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM peer_internal.adopt_bundle(j.bundle_id, worker_join_accepted.name, worker_join_accepted.commit_mode);
    PERFORM peer_internal.add_member(j.bundle_id, j.inviter_key, 'admin', nullif(worker_join_accepted.inviter_label, ''));
    UPDATE peer_internal.join_request AS x SET state = 'accepted', goal = worker_join_accepted.goal, secret = NULL WHERE x.request_id = j.request_id;
    PERFORM peer_internal.announce('join-accepted', peer_internal.peer_id(j.inviter_key), worker_join_accepted.name, NULL, NULL, NULL, NULL, 'The tables are on their way.', NULL);
END
$$;
COMMENT ON FUNCTION peer_internal.worker_join_accepted(uuid, text, text, text, jsonb) IS 'The inviter took this database in: makes room for the bundle and remembers what the inviter had.';

CREATE OR REPLACE FUNCTION peer_internal.worker_join_failed(request_id uuid, code text, detail text, hint text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j peer_internal.join_request;
BEGIN
    UPDATE peer_internal.join_request AS x SET state = 'failed', secret = NULL
     WHERE x.request_id = worker_join_failed.request_id AND x.state = 'requested' RETURNING x.* INTO j;
    IF FOUND THEN
        PERFORM peer_internal.announce('join-failed', peer_internal.peer_id(j.inviter_key), j.bundle_name, NULL, 'sync', worker_join_failed.code, false,
                                       worker_join_failed.detail, worker_join_failed.hint);
        PERFORM peer_internal.clear_problem('join_waiting', j.request_id::text);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_join_failed(uuid, text, text, text) IS 'A request to join is over for good.';

CREATE OR REPLACE FUNCTION peer_internal.worker_join_reached(bundle_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    j peer_internal.join_request;
BEGIN
    FOR j IN
        UPDATE peer_internal.join_request AS x SET state = 'joined'
         WHERE x.bundle_id = worker_join_reached.bundle_id AND x.state = 'accepted'
           AND NOT EXISTS (SELECT FROM jsonb_array_elements(x.goal) AS g(item)
                            WHERE NOT EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.digest = decode(g.item ->> 'head', 'hex') AND c.state = 'merged'))
        RETURNING x.*
    LOOP
        PERFORM peer_internal.announce('joined', peer_internal.peer_id(j.inviter_key), (SELECT b.name FROM peer_internal.bundle AS b WHERE b.bundle_id = j.bundle_id),
                                       NULL, NULL, NULL, NULL, 'The tables are here and filled.', NULL);
    END LOOP;
    RETURN NOT EXISTS (SELECT FROM peer_internal.join_request AS x WHERE x.bundle_id = worker_join_reached.bundle_id AND x.state = 'accepted');
END
$$;
COMMENT ON FUNCTION peer_internal.worker_join_reached(uuid) IS 'Announces that a bundle is joined once everything that the inviter had is merged. True: nothing is left to wait for.';

CREATE OR REPLACE FUNCTION peer_internal.worker_members_told(bundle_id uuid, teller text, peer_ids text[], roles text[]) RETURNS int
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    teller_role text;
    told record;
    bundle_name text;
    count int := 0;
BEGIN
    SELECT m.role, b.name INTO teller_role, bundle_name
      FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.bundle AS b USING (bundle_id)
     WHERE m.bundle_id = worker_members_told.bundle_id AND a.peer_id = worker_members_told.teller AND m.state = 'active';
    -- where there are grants, nobody is a member by hearsay
    IF teller_role IS NULL OR teller_role = 'reader' OR peer_internal.is_enforced(worker_members_told.bundle_id) THEN
        RETURN 0;
    END IF;
    FOR told IN
        SELECT t.peer_id, peer_internal.public_key(t.peer_id) AS public_key,
               CASE WHEN t.role = 'admin' AND teller_role <> 'admin' THEN 'writer' ELSE t.role END AS role
          FROM unnest(worker_members_told.peer_ids, worker_members_told.roles) AS t(peer_id, role)
         WHERE t.peer_id IS DISTINCT FROM peer.identity()
    LOOP
        CONTINUE WHEN told.public_key IS NULL OR told.role NOT IN ('reader', 'writer', 'admin');
        -- who is or was a member stays what it is: what another one tells never revives or raises anybody
        INSERT INTO peer_internal.member (bundle_id, author_id, role) VALUES (worker_members_told.bundle_id, peer_internal.author_id(told.public_key), told.role)
        ON CONFLICT ON CONSTRAINT member_pkey DO NOTHING;
        IF FOUND THEN
            count := count + 1;
            PERFORM peer_internal.announce('member-introduced', told.peer_id, bundle_name, NULL, NULL, NULL, NULL, format('Introduced by %s.', worker_members_told.teller), NULL);
        END IF;
    END LOOP;
    RETURN count;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_members_told(uuid, text, text[], text[]) IS 'A member that may write tells who else is a member: adds those that were never known here, with its own rights at most. Returns how many.';
