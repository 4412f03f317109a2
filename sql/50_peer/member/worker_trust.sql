-- The part of the worker's view that says whom it may link with.

CREATE OR REPLACE FUNCTION peer_internal.worker_trust() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'accept', (SELECT c.accept FROM peer.config AS c),
        'friends', (SELECT coalesce(jsonb_agg(f.peer_id), '[]') FROM peer.friend AS f WHERE f.state = 'accepted'),
        'blocked', (SELECT coalesce(jsonb_agg(f.peer_id), '[]') FROM peer.friend AS f WHERE f.state = 'blocked'),
        'grants', (SELECT coalesce(jsonb_object_agg(r.bundle_id, r.grant_count), '{}') FROM peer_internal.roster AS r),
        'unread', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.grant_count <> r.read_count),
        'enforced', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.is_enforced),
        'left', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.is_enforced AND coalesce(peer_internal.own_role(r.bundle_id), 'removed') = 'removed'),
        'requests', EXISTS (SELECT FROM peer_internal.grant_request),
        'notices', EXISTS (SELECT FROM peer_internal.friend_notice))
$$;
COMMENT ON FUNCTION peer_internal.worker_trust() IS 'Policy, friends, blocked peers, grants, and whether something waits to be signed.';
