-- Application connections to other peers: messages of programs, beside the exchange of bundles.

CREATE OR REPLACE FUNCTION peer.online_peers() RETURNS TABLE (peer_id text, label text, last_seen timestamptz)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.peer_id, a.label, clock_timestamp()
      FROM (SELECT p.peer_id FROM peer_internal.presence AS p
            UNION SELECT x.peer_id FROM peer_internal.connection AS c JOIN peer_internal.author AS x USING (author_id) WHERE c.state = 'open') AS o
      LEFT JOIN peer_internal.author AS a ON a.peer_id = o.peer_id
     -- what a killed worker left says nothing
     WHERE EXISTS (SELECT FROM peer_internal.worker_sessions())
     ORDER BY a.label NULLS LAST, o.peer_id
$$;
COMMENT ON FUNCTION peer.online_peers() IS 'The known peers that are online now, as far as the running worker knows; none without a worker.';

CREATE OR REPLACE FUNCTION peer.connect(peer_id text, confirm_data_receival boolean DEFAULT false) RETURNS uuid
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target_key bytea := peer_internal.public_key(connect.peer_id);
    target_author int;
    new_id uuid := gen_random_uuid();
    allowed bigint;
BEGIN
    IF target_key IS NULL THEN
        RAISE EXCEPTION '% is not a peer id', coalesce(quote_literal(left(connect.peer_id, 80)), 'NULL') USING ERRCODE = 'PGN01',
            DETAIL = 'A peer id has 57 characters and begins with pg1; the last two check the others.', HINT = 'SELECT peer.identity() on the other database gives it; SELECT * FROM peer.online_peers() lists who is online.';
    END IF;
    IF peer.identity() IS NULL THEN
        RAISE EXCEPTION 'this database has no identity yet' USING ERRCODE = 'PGI01', HINT = 'Run: pgpeer init --dsn …   It creates a key file and tells this database its public key.';
    END IF;
    IF connect.peer_id = peer.identity() THEN
        RAISE EXCEPTION 'this is the peer id of this very database' USING ERRCODE = 'PGN02', HINT = 'Connect to another peer: SELECT * FROM peer.online_peers();';
    END IF;
    target_author := peer_internal.author_id(target_key);
    -- one at a time, so that the limit holds
    PERFORM pg_advisory_xact_lock(peer_internal.lock_key(), target_author);
    SELECT c.connections_per_peer_max INTO allowed FROM peer.config AS c;
    IF (SELECT count(*) FROM peer_internal.channel AS h WHERE h.author_id = target_author AND h.state <> 'closed') >= allowed THEN
        RAISE EXCEPTION 'there are % connections to this peer already', allowed USING ERRCODE = 'PGN03',
            DETAIL = 'peer.config.connections_per_peer_max is ' || allowed || '.', HINT = 'Use one that is open (peer.connection), or end one with SELECT peer.disconnect(…).';
    END IF;
    INSERT INTO peer_internal.channel (connection_id, author_id, direction, confirm_data_receival)
    VALUES (new_id, target_author, 'outgoing', coalesce(connect.confirm_data_receival, false));
    INSERT INTO peer_internal.channel_sender (connection_id) VALUES (new_id);
    PERFORM pg_notify('pgpeer_channel', '');
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION peer.connect(text, boolean) IS 'Asks for a connection to a peer, over which programs send messages. The worker makes it: peer.event tells how it went, ''connection-opened'' or ''connection-closed''. Messages may be sent at once. confirm_data_receival: each acknowledgement is an event.';

CREATE OR REPLACE FUNCTION peer.disconnect(connection_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_over boolean;
BEGIN
    SELECT h.state = 'closed' INTO is_over FROM peer_internal.channel AS h WHERE h.connection_id = disconnect.connection_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no connection %', coalesce(disconnect.connection_id::text, 'NULL') USING ERRCODE = 'PGN04',
            HINT = 'SELECT * FROM peer.connection lists the connections; those that ended are forgotten after an hour.';
    END IF;
    IF NOT is_over THEN
        -- who sends at this moment goes first; who sends later is refused
        PERFORM FROM peer_internal.channel_sender AS s WHERE s.connection_id = disconnect.connection_id FOR UPDATE;
        INSERT INTO peer_internal.channel_farewell (connection_id) VALUES (disconnect.connection_id) ON CONFLICT ON CONSTRAINT channel_farewell_pkey DO NOTHING;
        PERFORM pg_notify('pgpeer_channel', '');
    END IF;
END
$$;
COMMENT ON FUNCTION peer.disconnect(uuid) IS 'Ends a connection after the messages sent so far are delivered. The other side is told ''peer-requested-closed''. Once it has ended, asking again changes nothing.';

CREATE OR REPLACE FUNCTION peer.send(connection_id uuid, data text) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size bigint := octet_length(convert_to(send.data, 'UTF8'));
    limits record;
    sender record;
    channel record;
BEGIN
    IF send.data IS NULL THEN
        RAISE EXCEPTION 'a message needs data' USING ERRCODE = 'PGN08', HINT = 'An empty text may be sent, NULL may not.';
    END IF;
    SELECT c.message_bytes_max, c.message_queue_count_max, c.message_queue_bytes_max INTO limits FROM peer.config AS c;
    IF size > limits.message_bytes_max THEN
        RAISE EXCEPTION 'a message of % bytes is too large', size USING ERRCODE = 'PGN06',
            DETAIL = 'peer.config.message_bytes_max is ' || limits.message_bytes_max || ' bytes.', HINT = 'Send it in parts, or put large data into a table of a bundle.';
    END IF;
    UPDATE peer_internal.channel_sender AS s SET last_number = s.last_number + 1, last_bytes = s.last_bytes + size
     WHERE s.connection_id = send.connection_id RETURNING s.last_number, s.last_bytes INTO sender;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no connection %', coalesce(send.connection_id::text, 'NULL') USING ERRCODE = 'PGN04',
            HINT = 'SELECT * FROM peer.connection lists the connections; those that ended are forgotten after an hour.';
    END IF;
    SELECT h.state, h.detail, h.acknowledged, h.acknowledged_bytes, EXISTS (SELECT FROM peer_internal.channel_farewell AS f WHERE f.connection_id = send.connection_id) AS ends
      INTO STRICT channel FROM peer_internal.channel AS h WHERE h.connection_id = send.connection_id;
    IF channel.ends OR channel.state NOT IN ('connecting', 'open') THEN
        RAISE EXCEPTION 'the connection is %', CASE WHEN channel.state = 'closed' THEN 'closed' ELSE 'being closed' END USING ERRCODE = 'PGN05',
            DETAIL = coalesce(channel.detail, 'It was disconnected here.'), HINT = 'Make a new one: SELECT peer.connect(…).';
    END IF;
    IF sender.last_number - channel.acknowledged > limits.message_queue_count_max OR sender.last_bytes - channel.acknowledged_bytes > limits.message_queue_bytes_max THEN
        RAISE EXCEPTION 'too many messages of this connection wait to be acknowledged' USING ERRCODE = 'PGN07',
            DETAIL = format('%s messages of %s bytes wait; peer.config.message_queue_count_max is %s and message_queue_bytes_max is %s bytes.',
                            sender.last_number - channel.acknowledged - 1, sender.last_bytes - channel.acknowledged_bytes - size, limits.message_queue_count_max, limits.message_queue_bytes_max),
            HINT = 'Wait until the other side has taken some, then send again.';
    END IF;
    INSERT INTO peer_internal.outgoing_message (connection_id, number, total_bytes, data) VALUES (send.connection_id, sender.last_number, sender.last_bytes, send.data);
    PERFORM pg_notify('pgpeer_channel', send.connection_id::text);
    RETURN sender.last_number;
END
$$;
COMMENT ON FUNCTION peer.send(uuid, text) IS 'Sends a message when the transaction commits, and gives its number in the connection, from 1. The other side finds it in peer.message: once, and in order. Until the transaction ends others who send on this connection wait.';

DROP VIEW IF EXISTS peer.connection;
CREATE VIEW peer.connection AS
SELECT x.connection_id, a.peer_id, a.label, x.direction, x.path, x.engine, x.state, x.rtt, x.bytes_sent, x.bytes_received, x.since, x.local_candidate, x.remote_candidate, 'link'::text AS kind,
       x.bytes_sent_per_second, x.bytes_received_per_second
  FROM peer_internal.connection AS x JOIN peer_internal.author AS a USING (author_id)
UNION ALL
SELECT h.connection_id, a.peer_id, a.label, h.direction, l.path, l.engine, CASE WHEN f.connection_id IS NOT NULL THEN 'closing' ELSE h.state END, l.rtt, h.acknowledged_bytes, h.received_bytes, h.since,
       l.local_candidate, l.remote_candidate, 'channel', NULL, NULL
  FROM peer_internal.channel AS h
  JOIN peer_internal.author AS a USING (author_id)
  LEFT JOIN peer_internal.channel_farewell AS f USING (connection_id)
  LEFT JOIN LATERAL (SELECT x.path, x.engine, x.rtt, x.local_candidate, x.remote_candidate FROM peer_internal.connection AS x
                      WHERE x.author_id = h.author_id AND x.state = 'open' ORDER BY x.since DESC LIMIT 1) AS l ON true
 WHERE h.state <> 'closed';
COMMENT ON VIEW peer.connection IS 'Kind ''link'': the links of this database''s worker to other peers. Kind ''channel'': connections made by peer.connect, here or there, with the path of the link that carries them.';
