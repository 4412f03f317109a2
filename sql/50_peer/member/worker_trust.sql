-- The part of the worker's view that says whom it may link with.

CREATE OR REPLACE FUNCTION peer_internal.worker_trust() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'accept', (SELECT c.accept FROM peer.config AS c),
        'link_count_max', (SELECT c.link_count_max FROM peer.config AS c),
        'friends', (SELECT coalesce(jsonb_agg(f.peer_id), '[]') FROM peer.friend AS f WHERE f.state = 'accepted'),
        'blocked', (SELECT coalesce(jsonb_agg(f.peer_id), '[]') FROM peer.friend AS f WHERE f.state = 'blocked'),
        'owner', (SELECT o.owner FROM peer_internal.owner AS o),
        'devices', (SELECT coalesce(jsonb_agg(d.peer_id), '[]') FROM peer_internal.device AS d WHERE peer_internal.is_own_device(d.peer_id)),
        'device_words', (SELECT coalesce(sum(d.seq), 0)::text FROM peer_internal.device AS d JOIN peer_internal.owner AS o USING (owner)),
        'grants', (SELECT coalesce(jsonb_object_agg(r.bundle_id, r.grant_count), '{}') FROM peer_internal.roster AS r),
        'unread', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.grant_count <> r.read_count),
        'enforced', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.is_enforced),
        'left', (SELECT coalesce(jsonb_agg(r.bundle_id), '[]') FROM peer_internal.roster AS r WHERE r.is_enforced AND coalesce(peer_internal.own_role(r.bundle_id), 'removed') = 'removed'),
        'requests', EXISTS (SELECT FROM peer_internal.grant_request),
        'notices', EXISTS (SELECT FROM peer_internal.friend_notice))
$$;
COMMENT ON FUNCTION peer_internal.worker_trust() IS 'Policy, the limit of links, friends, blocked peers, devices of the same owner, grants, and whether something waits to be signed.';
