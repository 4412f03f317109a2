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
