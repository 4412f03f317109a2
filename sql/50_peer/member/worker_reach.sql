-- The part of the worker's view that says how peers are reached: addresses, STUN servers, where to listen.

CREATE OR REPLACE FUNCTION peer_internal.is_blocked(peer_id text) RETURNS boolean
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = is_blocked.peer_id AND f.state = 'blocked')
$$;
COMMENT ON FUNCTION peer_internal.is_blocked(text) IS 'Whether a peer may never connect.';

CREATE OR REPLACE FUNCTION peer_internal.acquaintances() RETURNS TABLE (peer_id text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.peer_id
      FROM (SELECT a.peer_id FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id) WHERE m.state = 'active'
            UNION SELECT f.peer_id FROM peer.friend AS f WHERE f.state = 'accepted'
            UNION SELECT peer_internal.peer_id(j.inviter_key) FROM peer_internal.join_request AS j WHERE j.state IN ('requested', 'accepted')) AS k
     WHERE k.peer_id IS DISTINCT FROM peer.identity() AND NOT peer_internal.is_blocked(k.peer_id)
$$;
COMMENT ON FUNCTION peer_internal.acquaintances() IS 'The peers that may be dialled: active members, friends, and inviters; none that is blocked.';

CREATE OR REPLACE FUNCTION peer_internal.hubs_of_peers() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(h.address ORDER BY h.address), '[]')
      FROM (SELECT DISTINCT a.address FROM peer_internal.peer_address AS a
             WHERE a.source = 'static' AND a.address ~ '^wss?://' AND a.peer_id IN (SELECT k.peer_id FROM peer_internal.acquaintances() AS k)
               AND NOT EXISTS (SELECT FROM peer.hub AS x WHERE x.url = a.address)
             ORDER BY a.address LIMIT 8) AS h
$$;
COMMENT ON FUNCTION peer_internal.hubs_of_peers() IS 'Hubs that people here have entered as addresses of peers; never what was only told.';

CREATE OR REPLACE FUNCTION peer_internal.worker_reach() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'listen', (SELECT c.listen_address FROM peer.config AS c),
        'public', (SELECT c.public_address FROM peer.config AS c),
        'ice', (SELECT coalesce(jsonb_object_agg(f.peer_id, jsonb_build_object('url', s.url, 'username', s.username, 'credential', s.credential)), '{}')
                  FROM peer.friend AS f JOIN peer.stun_server AS s ON s.id = f.stun_server_id WHERE s.enabled AND f.state <> 'blocked'),
        'addresses', (SELECT coalesce(jsonb_object_agg(t.peer_id, t.addresses), '{}')
                        FROM (SELECT o.peer_id, jsonb_agg(jsonb_build_array(o.address, o.source) ORDER BY o.place) AS addresses
                                FROM (SELECT a.peer_id, a.address, a.source,
                                             row_number() OVER (PARTITION BY a.peer_id ORDER BY a.source = 'static' DESC, a.failures, a.last_success DESC NULLS LAST, a.seq DESC NULLS LAST, a.address) AS place
                                        FROM peer_internal.peer_address AS a WHERE a.address LIKE 'tls:%') AS o
                               WHERE o.place <= 8 AND o.peer_id IN (SELECT k.peer_id FROM peer_internal.acquaintances() AS k)
                               GROUP BY o.peer_id) AS t),
        'records', (SELECT coalesce(sum(r.seq), 0)::text FROM peer_internal.peer_record AS r))
$$;
COMMENT ON FUNCTION peer_internal.worker_reach() IS 'Where to listen, STUN servers and addresses of single peers, and a number that grows with every new peer record.';

CREATE OR REPLACE FUNCTION peer_internal.own_record() RETURNS TABLE (seq bigint, record bytea)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.seq, r.record FROM peer_internal.peer_record AS r WHERE r.peer_id = peer.identity()
$$;
COMMENT ON FUNCTION peer_internal.own_record() IS 'What this database last said of itself.';

CREATE OR REPLACE FUNCTION peer_internal.config_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('pgpeer_config', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION peer_internal.config_changed() IS 'Trigger: the worker follows at once when people edit a table of settings.';

CREATE OR REPLACE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON peer.config FOR EACH STATEMENT EXECUTE FUNCTION peer_internal.config_changed();
CREATE OR REPLACE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON peer.hub FOR EACH STATEMENT EXECUTE FUNCTION peer_internal.config_changed();
CREATE OR REPLACE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON peer.stun_server FOR EACH STATEMENT EXECUTE FUNCTION peer_internal.config_changed();
CREATE OR REPLACE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON peer.friend FOR EACH STATEMENT EXECUTE FUNCTION peer_internal.config_changed();
