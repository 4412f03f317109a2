-- What the worker and Python programs do with application connections; the public functions are in 90_public.

CREATE OR REPLACE FUNCTION peer_internal.channel_announce(kind text, connection_id uuid, peer_id text, phase text DEFAULT NULL, code text DEFAULT NULL, retryable boolean DEFAULT NULL, reason text DEFAULT NULL, detail text DEFAULT NULL, hint text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    new_id bigint;
BEGIN
    INSERT INTO peer.event (kind, connection_id, peer_id, phase, code, retryable, reason, detail, hint)
    VALUES (channel_announce.kind, channel_announce.connection_id, channel_announce.peer_id, nullif(channel_announce.phase, ''), channel_announce.code,
            channel_announce.retryable, channel_announce.reason, channel_announce.detail, nullif(channel_announce.hint, ''))
    RETURNING id INTO new_id;
    PERFORM pg_notify('peer_event', new_id::text);
END
$$;
COMMENT ON FUNCTION peer_internal.channel_announce(text, uuid, text, text, text, boolean, text, text, text) IS 'Writes an event of an application connection and announces it.';

CREATE OR REPLACE FUNCTION peer_internal.refusal_of_peer(peer_id text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = refusal_of_peer.peer_id AND f.state = 'blocked') THEN 'refused_blocked'
                WHEN c.accept = 'open' THEN NULL
                WHEN peer_internal.is_own_device(refusal_of_peer.peer_id) THEN NULL
                WHEN c.accept = 'friends' AND EXISTS (SELECT FROM peer.friend AS f WHERE f.peer_id = refusal_of_peer.peer_id AND f.state = 'accepted') THEN NULL
                WHEN EXISTS (SELECT FROM peer_internal.member AS m JOIN peer_internal.author AS a USING (author_id)
                              WHERE a.peer_id = refusal_of_peer.peer_id AND m.state = 'active') THEN NULL
                ELSE 'refused_policy' END
      FROM peer.config AS c
$$;
COMMENT ON FUNCTION peer_internal.refusal_of_peer(text) IS 'NULL when a peer may open application connections to this database, else the code of the refusal. Members of a common bundle count as invited.';

CREATE OR REPLACE FUNCTION peer_internal.inbox_room(connection_id uuid) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN i.messages >= c.message_inbox_count_max THEN 0 ELSE greatest(c.message_inbox_bytes_max - i.bytes, 0) END
      FROM peer.config AS c
     CROSS JOIN (SELECT count(*) AS messages, coalesce(sum(octet_length(m.data)), 0)::bigint AS bytes
                   FROM peer.message AS m WHERE m.connection_id = inbox_room.connection_id) AS i
$$;
COMMENT ON FUNCTION peer_internal.inbox_room(uuid) IS 'Bytes that the inbox of a connection takes now.';

CREATE OR REPLACE FUNCTION peer_internal.channel_list() RETURNS jsonb
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'settings', (SELECT jsonb_build_object('connections', c.connections_per_peer_max, 'accept', c.accept, 'connect', extract(epoch FROM c.connect_timeout),
                            'slow', extract(epoch FROM c.connection_slow_timeout), 'fail', extract(epoch FROM c.connection_timeout), 'stall', extract(epoch FROM c.connection_stall_timeout))
                       FROM peer.config AS c),
        'channels', (SELECT coalesce(jsonb_agg(jsonb_build_object('connection', h.connection_id, 'peer_id', a.peer_id, 'direction', h.direction, 'confirm', h.confirm_data_receival,
                            'state', h.state, 'age', extract(epoch FROM clock_timestamp() - h.since), 'acknowledged', h.acknowledged, 'acknowledged_chain', encode(h.acknowledged_chain, 'hex'),
                            'received', h.received, 'received_chain', encode(h.received_chain, 'hex'), 'room', peer_internal.inbox_room(h.connection_id),
                            'farewell', f.connection_id IS NOT NULL OR h.state = 'closing', 'last', s.last_number) ORDER BY h.since), '[]')
                       FROM peer_internal.channel AS h JOIN peer_internal.author AS a USING (author_id) JOIN peer_internal.channel_sender AS s USING (connection_id)
                       LEFT JOIN peer_internal.channel_farewell AS f USING (connection_id)
                      WHERE h.state <> 'closed'))
$$;
COMMENT ON FUNCTION peer_internal.channel_list() IS 'The settings of application connections and all those that are not closed, as the worker needs them.';

CREATE OR REPLACE FUNCTION peer_internal.channel_ends() RETURNS TABLE (connection_id uuid, peer_id text, was_here boolean)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.connection_id, a.peer_id, h.code = 'local_closed'
      FROM peer_internal.channel AS h JOIN peer_internal.author AS a USING (author_id)
     WHERE h.state = 'closed' AND h.reason = 'peer-requested-closed'
     ORDER BY h.closed_at
$$;
COMMENT ON FUNCTION peer_internal.channel_ends() IS 'Application connections that ended as somebody wished (was_here: in this database), oldest first, until they are pruned: a peer that forgot the end in a crash is told how it was.';

CREATE OR REPLACE FUNCTION peer_internal.channel_begin() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM peer_internal.presence;
    PERFORM peer_internal.channel_prune('1 hour');
END
$$;
COMMENT ON FUNCTION peer_internal.channel_begin() IS 'A worker begins: nobody is known to be online yet, and what is long over is forgotten.';

CREATE OR REPLACE FUNCTION peer_internal.channel_prune(age interval) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- who sends at this very moment holds the row; it is taken the next time
    WITH over AS MATERIALIZED (
        SELECT s.connection_id FROM peer_internal.channel_sender AS s JOIN peer_internal.channel AS h USING (connection_id)
         WHERE h.state = 'closed' AND h.closed_at < clock_timestamp() - age FOR UPDATE OF s SKIP LOCKED),
    senders AS (DELETE FROM peer_internal.channel_sender AS s USING over AS o WHERE s.connection_id = o.connection_id),
    farewells AS (DELETE FROM peer_internal.channel_farewell AS f USING over AS o WHERE f.connection_id = o.connection_id),
    messages AS (DELETE FROM peer_internal.outgoing_message AS m USING over AS o WHERE m.connection_id = o.connection_id)
    DELETE FROM peer_internal.channel AS h USING over AS o WHERE h.connection_id = o.connection_id;
    DELETE FROM peer.event AS e WHERE e.kind IN ('message-received', 'message-confirmed') AND e.at < clock_timestamp() - age;
END
$$;
COMMENT ON FUNCTION peer_internal.channel_prune(interval) IS 'Forgets application connections that ended so long ago, and the events of single messages of that age. Received messages stay until they are deleted.';

CREATE OR REPLACE FUNCTION peer_internal.channel_outgoing(connection_ids uuid[], after_numbers bigint[], max_bytes bigint)
RETURNS TABLE (connection_id uuid, number bigint, data text, has_more boolean)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT w.connection_id, m.number, m.data, m.has_more
      FROM unnest(connection_ids, after_numbers) AS w(connection_id, after_number)
     CROSS JOIN LATERAL (
        SELECT x.number, x.data, x.last_number > x.number AS has_more
          FROM (SELECT o.number, o.data, s.last_number, o.total_bytes, min(o.total_bytes) OVER () AS first_bytes
                  FROM (SELECT y.number, y.data, y.total_bytes FROM peer_internal.outgoing_message AS y
                         WHERE y.connection_id = w.connection_id AND y.number > w.after_number ORDER BY y.number LIMIT 500) AS o
                 CROSS JOIN (SELECT z.last_number FROM peer_internal.channel_sender AS z WHERE z.connection_id = w.connection_id) AS s) AS x
         WHERE x.total_bytes - x.first_bytes <= max_bytes) AS m
     ORDER BY w.connection_id, m.number
$$;
COMMENT ON FUNCTION peer_internal.channel_outgoing(uuid[], bigint[], bigint) IS 'The next messages of connections after the numbers given, the first one of each and then up to so many bytes.';

CREATE OR REPLACE FUNCTION peer_internal.channel_apply(operations jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item jsonb;
    id uuid;
    rooms jsonb := '{}';
BEGIN
    FOR item IN SELECT x.item FROM jsonb_array_elements(operations) WITH ORDINALITY AS x(item, n) ORDER BY x.n LOOP
        id := (item ->> 'connection')::uuid;
        CASE item ->> 'op'
        WHEN 'opened' THEN
            UPDATE peer_internal.channel AS h SET state = 'open' WHERE h.connection_id = id AND h.state = 'connecting';
            IF FOUND THEN
                PERFORM peer_internal.channel_announce('connection-opened', id, item ->> 'peer_id', detail => 'The other side has accepted the connection.');
            END IF;
        WHEN 'messages' THEN
            INSERT INTO peer.message (connection_id, peer_id, number, data)
            SELECT id, item ->> 'peer_id', (m.value ->> 'number')::bigint, m.value ->> 'data' FROM jsonb_array_elements(item -> 'messages') AS m(value);
            UPDATE peer_internal.channel AS h SET received = (item ->> 'number')::bigint, received_chain = decode(item ->> 'chain', 'hex'),
                   received_bytes = h.received_bytes + (item ->> 'bytes')::bigint WHERE h.connection_id = id;
            PERFORM peer_internal.channel_announce('message-received', id, item ->> 'peer_id', detail => 'Message ' || (m.value ->> 'number') || '.')
               FROM jsonb_array_elements(item -> 'messages') AS m(value);
            rooms := rooms || jsonb_build_object(id::text, peer_internal.inbox_room(id));
        WHEN 'acknowledged' THEN
            PERFORM peer_internal.channel_acknowledged(id, item ->> 'peer_id', (item ->> 'number')::bigint, decode(item ->> 'chain', 'hex'));
        WHEN 'slow' THEN
            PERFORM peer_internal.channel_announce('connection-slow', id, item ->> 'peer_id', item ->> 'phase', 'slow', true, NULL, item ->> 'detail');
        WHEN 'recovered' THEN
            PERFORM peer_internal.channel_announce('connection-recovered', id, item ->> 'peer_id', item ->> 'phase', detail => 'It goes on.');
        WHEN 'closing' THEN
            UPDATE peer_internal.channel AS h SET state = 'closing' WHERE h.connection_id = id AND h.state <> 'closed';
        WHEN 'closed' THEN
            PERFORM peer_internal.channel_closed(id, item ->> 'reason', item ->> 'code', item ->> 'phase', (item ->> 'retryable')::boolean, item ->> 'detail', item ->> 'hint');
        END CASE;
    END LOOP;
    RETURN rooms;
END
$$;
COMMENT ON FUNCTION peer_internal.channel_apply(jsonb) IS 'Stores what happened to application connections, in order, in one transaction. Gives for each connection that got messages the room that its inbox has.';

CREATE OR REPLACE FUNCTION peer_internal.channel_acknowledged(connection_id uuid, peer_id text, number bigint, chain bytea) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_bytes bigint;
    confirms boolean;
BEGIN
    SELECT m.total_bytes INTO last_bytes FROM peer_internal.outgoing_message AS m
     WHERE m.connection_id = channel_acknowledged.connection_id AND m.number = channel_acknowledged.number;
    UPDATE peer_internal.channel AS h SET acknowledged = channel_acknowledged.number, acknowledged_chain = channel_acknowledged.chain,
           acknowledged_bytes = coalesce(last_bytes, h.acknowledged_bytes)
     WHERE h.connection_id = channel_acknowledged.connection_id RETURNING h.confirm_data_receival INTO confirms;
    WITH gone AS (DELETE FROM peer_internal.outgoing_message AS m
                   WHERE m.connection_id = channel_acknowledged.connection_id AND m.number <= channel_acknowledged.number RETURNING m.number)
    SELECT count(*) INTO last_bytes
      FROM (SELECT g.number FROM gone AS g ORDER BY g.number) AS g
     CROSS JOIN LATERAL (SELECT CASE WHEN confirms THEN peer_internal.channel_announce('message-confirmed', channel_acknowledged.connection_id, channel_acknowledged.peer_id,
                                                                                       detail => 'Message ' || g.number || '.') END) AS a;
    IF NOT confirms THEN
        PERFORM pg_notify('peer_event', '');
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.channel_acknowledged(uuid, text, bigint, bytea) IS 'The other side has stored the messages of a connection up to this number.';

CREATE OR REPLACE FUNCTION peer_internal.channel_closed(connection_id uuid, reason text, code text, phase text, retryable boolean, detail text, hint text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    closed_author int;
BEGIN
    UPDATE peer_internal.channel AS h SET state = 'closed', reason = channel_closed.reason, code = channel_closed.code, detail = channel_closed.detail, closed_at = clock_timestamp()
     WHERE h.connection_id = channel_closed.connection_id AND h.state <> 'closed' RETURNING h.author_id INTO closed_author;
    IF FOUND THEN
        DELETE FROM peer_internal.outgoing_message AS m WHERE m.connection_id = channel_closed.connection_id;
        PERFORM peer_internal.channel_announce('connection-closed', channel_closed.connection_id, a.peer_id, channel_closed.phase, channel_closed.code, channel_closed.retryable,
                                               channel_closed.reason, channel_closed.reason || ': ' || channel_closed.detail, channel_closed.hint)
           FROM peer_internal.author AS a WHERE a.author_id = closed_author;
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.channel_closed(uuid, text, text, text, boolean, text, text) IS 'An application connection is over; what was not acknowledged is dropped.';

CREATE OR REPLACE FUNCTION peer_internal.channel_accept(connection_id uuid, peer_id text, confirm_data_receival boolean) RETURNS TABLE (refusal text, room bigint)
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    refusal := peer_internal.refusal_of_peer(channel_accept.peer_id);
    -- also when it is over and pruned: a number of a message that nobody has read yet is not given twice
    IF refusal IS NULL AND (EXISTS (SELECT FROM peer_internal.channel AS h WHERE h.connection_id = channel_accept.connection_id)
                            OR EXISTS (SELECT FROM peer.message AS m WHERE m.connection_id = channel_accept.connection_id)) THEN
        refusal := 'replay';
    END IF;
    -- each leaves rows behind for an hour, also when it is closed at once
    IF refusal IS NULL AND (SELECT count(*) FROM peer_internal.channel AS h JOIN peer_internal.author AS a USING (author_id)
                             WHERE a.peer_id = channel_accept.peer_id AND h.direction = 'incoming' AND h.since > clock_timestamp() - interval '1 minute') >= 120 THEN
        refusal := 'rate_limited';
    END IF;
    IF refusal IS NULL THEN
        INSERT INTO peer_internal.channel (connection_id, author_id, direction, confirm_data_receival, state)
        VALUES (channel_accept.connection_id, peer_internal.author_id(peer_internal.public_key(channel_accept.peer_id)), 'incoming', channel_accept.confirm_data_receival, 'open');
        INSERT INTO peer_internal.channel_sender (connection_id) VALUES (channel_accept.connection_id);
        PERFORM peer_internal.channel_announce('incoming-connection', channel_accept.connection_id, channel_accept.peer_id, detail => 'A peer has connected.');
        room := peer_internal.inbox_room(channel_accept.connection_id);
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION peer_internal.channel_accept(uuid, text, boolean) IS 'A peer opens an application connection: refusal is NULL and the connection is there, or the code of the refusal.';

CREATE OR REPLACE FUNCTION peer_internal.channel_rooms(connection_ids uuid[]) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(jsonb_object_agg(c.connection_id, peer_internal.inbox_room(c.connection_id)), '{}') FROM unnest(connection_ids) AS c(connection_id)
$$;
COMMENT ON FUNCTION peer_internal.channel_rooms(uuid[]) IS 'Bytes that the inboxes of these connections take now, by connection.';

CREATE OR REPLACE FUNCTION peer_internal.set_presence(peer_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM peer_internal.presence AS p WHERE p.peer_id <> ALL (peer_ids);
    INSERT INTO peer_internal.presence (peer_id) SELECT DISTINCT u.peer_id FROM unnest(peer_ids) AS u(peer_id)
    ON CONFLICT ON CONSTRAINT presence_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION peer_internal.set_presence(text[]) IS 'The hubs say that exactly these peers are online.';

CREATE OR REPLACE FUNCTION peer_internal.client_look(connection_ids uuid[])
RETURNS TABLE (connection_id uuid, peer_id text, label text, direction text, confirm_data_receival boolean, state text, acknowledged bigint, reason text, code text, detail text)
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.connection_id, a.peer_id, a.label, h.direction, h.confirm_data_receival, h.state, h.acknowledged, h.reason, h.code, h.detail
      FROM peer_internal.channel AS h JOIN peer_internal.author AS a USING (author_id)
     WHERE h.state <> 'closed' OR h.connection_id = ANY (connection_ids)
     ORDER BY h.since, h.connection_id
$$;
COMMENT ON FUNCTION peer_internal.client_look(uuid[]) IS 'The application connections that are not closed, and these, for programs that hold some of them.';

CREATE OR REPLACE FUNCTION peer_internal.client_take(connection_ids uuid[], max_messages int)
RETURNS TABLE (connection_id uuid, number bigint, data text)
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    WITH taken AS (
        DELETE FROM peer.message AS m
         USING (SELECT x.connection_id, x.number FROM peer.message AS x
                 WHERE x.connection_id = ANY (client_take.connection_ids) ORDER BY x.connection_id, x.number LIMIT client_take.max_messages FOR UPDATE) AS f
         WHERE m.connection_id = f.connection_id AND m.number = f.number
        RETURNING m.connection_id, m.number, m.data)
    SELECT t.connection_id, t.number, t.data FROM taken AS t ORDER BY t.connection_id, t.number
$$;
COMMENT ON FUNCTION peer_internal.client_take(uuid[], int) IS 'Takes the next messages of these connections out of the inbox, in order: of several programs that ask one gets each.';
