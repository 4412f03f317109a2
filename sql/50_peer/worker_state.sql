-- What the worker must know, and what it reports, in one query every few seconds.

CREATE OR REPLACE FUNCTION peer_internal.worker_begin() RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- what an earlier worker left
    DELETE FROM peer_internal.connection;
    DELETE FROM peer_internal.reported_problem AS p WHERE p.kind IN ('hub_unreachable', 'peer_unreachable', 'join_waiting', 'seal_failed', 'merge_failed', 'clock_differs', 'cannot_listen', 'key_in_use_elsewhere', 'ledger_failed');
    UPDATE peer_internal.worker AS w SET awake = false WHERE w.awake;
    RETURN jsonb_build_object(
        'public_key', (SELECT encode(i.public_key, 'hex') FROM peer_internal.identity AS i),
        'epoch', (SELECT i.epoch FROM peer_internal.identity AS i),
        'is_copy', peer_internal.is_copy(),
        -- a clock that was set back since then is right again, as far as anybody here can tell
        'is_ahead', EXISTS (SELECT FROM peer_internal.reported_problem AS p WHERE p.kind = 'clock_ahead' AND p.since <= to_timestamp(peer_internal.unix_milliseconds(clock_timestamp()) / 1000.0)),
        'bundles', (SELECT coalesce(jsonb_agg(jsonb_build_object('bundle', b.bundle_id, 'seq', n.seq, 'signed', n.signed)), '[]')
                      FROM peer_internal.bundle AS b
                     CROSS JOIN LATERAL (
                           -- people commit without a worker: what is not signed yet was promised to nobody
                           SELECT coalesce(max(c.seq) FILTER (WHERE c.state = 'merged'), 0) AS seq, coalesce(max(c.seq) FILTER (WHERE c.signature IS NOT NULL), 0) AS signed
                             FROM peer_internal.commit AS c
                             JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.identity AS i ON i.public_key = a.public_key AND i.epoch = c.epoch
                            WHERE c.bundle_id = b.bundle_id) AS n));
END
$$;
COMMENT ON FUNCTION peer_internal.worker_begin() IS 'Clears what an earlier worker left and tells who this database is and the last numbers of its own commits in each bundle: seq of all merged ones, signed of those with a signature.';

CREATE OR REPLACE FUNCTION peer_internal.worker_look(connections jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF worker_look.connections IS NOT NULL THEN
        UPDATE peer_internal.connection AS c
           SET bytes_sent = u.bytes_sent, bytes_received = u.bytes_received, rtt = pg_catalog.make_interval(secs => u.rtt),
               bytes_sent_per_second = coalesce(u.bytes_sent_per_second, 0), bytes_received_per_second = coalesce(u.bytes_received_per_second, 0)
          FROM jsonb_to_recordset(worker_look.connections)
               AS u(connection_id uuid, bytes_sent bigint, bytes_received bigint, bytes_sent_per_second bigint, bytes_received_per_second bigint, rtt double precision)
         WHERE c.connection_id = u.connection_id;
    END IF;
    RETURN jsonb_build_object(
        'config', (SELECT jsonb_build_object('label', c.label,
                          'clock_drift_limit', extract(epoch FROM c.clock_drift_limit), 'connect_timeout', extract(epoch FROM c.connect_timeout), 'reconnect_delay_max', extract(epoch FROM c.reconnect_delay_max))
                     FROM peer.config AS c),
        'clock', peer_internal.unix_milliseconds(clock_timestamp()),
        'hubs', (SELECT coalesce(jsonb_agg(h.url ORDER BY (h.id = c.hub_id) DESC NULLS LAST, h.id), '[]') FROM peer.hub AS h CROSS JOIN peer.config AS c WHERE h.enabled) || peer_internal.hubs_of_peers(),
        'ice', (SELECT coalesce(jsonb_agg(jsonb_build_object('url', s.url, 'username', s.username, 'credential', s.credential) ORDER BY (s.id = c.stun_server_id) DESC NULLS LAST, s.id), '[]')
                  FROM peer.stun_server AS s CROSS JOIN peer.config AS c WHERE s.enabled),
        'bundles', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', b.bundle_id, 'name', b.name, 'mode', b.commit_mode,
                           'changed', b.commit_mode = 'auto' AND (peer_internal.journal_numbers(b.bundle_id) <> '{}' OR peer_internal.has_new_partitions(b.bundle_id)),
                           'unsigned', EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.bundle_id = b.bundle_id AND c.signature IS NULL AND c.state = 'merged'),
                           'due', EXISTS (SELECT FROM peer_internal.commit AS c WHERE c.bundle_id = b.bundle_id AND (c.state = 'received' OR c.state = 'held' AND c.retry_at <= clock_timestamp())),
                           'joining', EXISTS (SELECT FROM peer_internal.join_request AS j WHERE j.bundle_id = b.bundle_id AND j.state = 'accepted'))), '[]')
                      FROM peer_internal.bundle AS b),
        'members', (SELECT coalesce(jsonb_agg(jsonb_build_object('bundle', m.bundle_id, 'peer_id', a.peer_id, 'role', m.role)), '[]')
                      FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
                     WHERE m.state = 'active' AND a.public_key <> (SELECT i.public_key FROM peer_internal.identity AS i)),
        'joins', (SELECT coalesce(jsonb_agg(jsonb_build_object('request', j.request_id, 'invite', j.invite_id, 'bundle', j.bundle_id, 'name', j.bundle_name,
                         'inviter', encode(j.inviter_key, 'hex'), 'secret', j.secret, 'expires', extract(epoch FROM j.expires_at))), '[]')
                    FROM peer_internal.join_request AS j WHERE j.state = 'requested'),
        'invites', EXISTS (SELECT FROM peer_internal.invite AS i WHERE i.uses_left > 0 AND i.expires_at > clock_timestamp()),
        'trust', peer_internal.worker_trust(),
        'reach', peer_internal.worker_reach());
END
$$;
COMMENT ON FUNCTION peer_internal.worker_look(jsonb) IS 'Takes the traffic counters of connections (NULL: unchanged) and returns everything that the worker acts on.';

CREATE OR REPLACE FUNCTION peer_internal.worker_connected(connection_id uuid, peer_id text, label text, direction text, path text, engine text, local_candidate text, remote_candidate text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    peer_author int := peer_internal.author_id(peer_internal.public_key(worker_connected.peer_id));
BEGIN
    INSERT INTO peer_internal.connection (connection_id, author_id, direction, path, engine, state, local_candidate, remote_candidate)
    VALUES (worker_connected.connection_id, peer_author, worker_connected.direction, worker_connected.path, worker_connected.engine, 'open',
            worker_connected.local_candidate, worker_connected.remote_candidate);
    UPDATE peer_internal.author AS a SET label = left(worker_connected.label, 200)
     WHERE a.author_id = peer_author AND worker_connected.label <> '' AND a.label IS DISTINCT FROM left(worker_connected.label, 200);
    UPDATE peer_internal.member AS m SET last_seen = clock_timestamp() WHERE m.author_id = peer_author;
    PERFORM peer_internal.clear_problem('peer_unreachable', worker_connected.peer_id);
    PERFORM peer_internal.announce('connected', worker_connected.peer_id, NULL, worker_connected.connection_id, NULL, NULL, NULL,
                                   format('%s over %s: %s to %s', worker_connected.path, worker_connected.engine, worker_connected.local_candidate, worker_connected.remote_candidate), NULL);
END
$$;
COMMENT ON FUNCTION peer_internal.worker_connected(uuid, text, text, text, text, text, text, text) IS 'Lists a link whose peer has proven its identity.';

CREATE OR REPLACE FUNCTION peer_internal.worker_path_changed(connection_id uuid, path text, engine text, local_candidate text, remote_candidate text, rtt double precision) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before peer_internal.connection;
BEGIN
    SELECT c.* INTO before FROM peer_internal.connection AS c WHERE c.connection_id = worker_path_changed.connection_id FOR UPDATE;
    IF FOUND AND (before.path, before.engine, before.local_candidate, before.remote_candidate)
                 IS DISTINCT FROM (worker_path_changed.path, worker_path_changed.engine, worker_path_changed.local_candidate, worker_path_changed.remote_candidate) THEN
        UPDATE peer_internal.connection AS c
           SET path = worker_path_changed.path, engine = worker_path_changed.engine, local_candidate = worker_path_changed.local_candidate,
               remote_candidate = worker_path_changed.remote_candidate, rtt = make_interval(secs => worker_path_changed.rtt)
         WHERE c.connection_id = worker_path_changed.connection_id;
        PERFORM peer_internal.announce('path-changed', (SELECT a.peer_id FROM peer_internal.author AS a WHERE a.author_id = before.author_id), NULL, before.connection_id, NULL, NULL, NULL,
                                       format('%s over %s: %s to %s; before: %s', worker_path_changed.path, worker_path_changed.engine, worker_path_changed.local_candidate,
                                              worker_path_changed.remote_candidate, before.path), NULL);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_path_changed(uuid, text, text, text, text, double precision) IS 'A link goes on over another path; rtt in seconds.';

CREATE OR REPLACE FUNCTION peer_internal.worker_disconnected(connection_id uuid, code text, phase text, retryable boolean, detail text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    peer_author int;
BEGIN
    DELETE FROM peer_internal.connection AS c WHERE c.connection_id = worker_disconnected.connection_id RETURNING c.author_id INTO peer_author;
    IF FOUND THEN
        UPDATE peer_internal.member AS m SET last_seen = clock_timestamp() WHERE m.author_id = peer_author;
        PERFORM peer_internal.announce('disconnected', (SELECT a.peer_id FROM peer_internal.author AS a WHERE a.author_id = peer_author), NULL,
                                       worker_disconnected.connection_id, worker_disconnected.phase, worker_disconnected.code, worker_disconnected.retryable, worker_disconnected.detail, NULL);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_disconnected(uuid, text, text, boolean, text) IS 'A link is gone.';

CREATE OR REPLACE FUNCTION peer_internal.worker_acknowledged(acknowledgements jsonb) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE peer_internal.member AS m SET acknowledged = u.vector, last_seen = clock_timestamp()
      FROM jsonb_to_recordset(worker_acknowledged.acknowledgements) AS u(bundle uuid, peer_id text, vector jsonb)
      JOIN peer_internal.author AS a ON a.peer_id = u.peer_id
     WHERE m.bundle_id = u.bundle AND m.author_id = a.author_id
$$;
COMMENT ON FUNCTION peer_internal.worker_acknowledged(jsonb) IS 'What peers have told to be merged durably: [{bundle, peer_id, vector}].';

CREATE OR REPLACE FUNCTION peer_internal.worker_end() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM peer_internal.connection;
    UPDATE peer_internal.worker AS w SET awake = false WHERE w.awake;
END
$$;
COMMENT ON FUNCTION peer_internal.worker_end() IS 'The worker stops: its links are gone and writers notify again.';
