-- What a person or a monitor wants to know of one peer, as one document.

CREATE OR REPLACE FUNCTION peer_internal.worker_diagnosed(report jsonb) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO peer_internal.diagnostics (report) VALUES (worker_diagnosed.report)
    ON CONFLICT ON CONSTRAINT diagnostics_pkey DO UPDATE SET reported_at = clock_timestamp(), report = EXCLUDED.report
$$;
COMMENT ON FUNCTION peer_internal.worker_diagnosed(jsonb) IS 'Keeps the report of the running worker about its process.';

CREATE OR REPLACE FUNCTION peer.diagnostics() RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'peer_id', peer.identity(),
        'label', (SELECT c.label FROM peer.config AS c),
        'at', clock_timestamp(),
        -- what a worker that is gone has left says nothing
        'worker', (SELECT d.report || jsonb_build_object('reported_at', d.reported_at) FROM peer_internal.diagnostics AS d WHERE EXISTS (SELECT FROM peer_internal.worker_sessions())),
        'connections', (SELECT jsonb_build_object('links', count(*) FILTER (WHERE x.kind = 'link'), 'channels', count(*) FILTER (WHERE x.kind = 'channel')) FROM peer.connection AS x),
        'paths', (SELECT coalesce(jsonb_object_agg(p.path, p.links), '{}') FROM (SELECT x.path, count(*) AS links FROM peer.connection AS x WHERE x.kind = 'link' GROUP BY x.path) AS p),
        'queue', (SELECT jsonb_build_object('messages', count(*), 'bytes', coalesce(sum(octet_length(o.data)), 0)) FROM peer_internal.outgoing_message AS o),
        'errors', (SELECT coalesce(jsonb_object_agg(f.code, f.failures), '{}') FROM (SELECT f.code, sum(f.count) AS failures FROM peer.failure AS f GROUP BY f.code) AS f),
        'problems', (SELECT coalesce(jsonb_object_agg(p.kind, p.problems), '{}') FROM (SELECT p.kind, count(*) AS problems FROM peer.problem AS p GROUP BY p.kind) AS p),
        'peers', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                             'peer_id', x.peer_id, 'label', x.label, 'path', x.path, 'engine', x.engine, 'state', x.state, 'rtt_seconds', extract(epoch FROM x.rtt), 'bytes_sent', x.bytes_sent,
                             'bytes_received', x.bytes_received, 'bytes_sent_per_second', x.bytes_sent_per_second, 'bytes_received_per_second', x.bytes_received_per_second, 'since', x.since,
                             'queued_messages', (SELECT count(*) FROM peer_internal.channel AS h JOIN peer_internal.author AS a USING (author_id)
                                                   JOIN peer_internal.outgoing_message AS o USING (connection_id) WHERE a.peer_id = x.peer_id)) ORDER BY x.peer_id), '[]')
                    FROM peer.connection AS x WHERE x.kind = 'link'))
$$;
COMMENT ON FUNCTION peer.diagnostics() IS 'One document about this peer: its worker''s processor time, memory, loop lag, repeats and buffers; links with path, round trip and bytes; queues; errors by code. worker is null when none runs; it reports twice a minute.';
