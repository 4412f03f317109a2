-- Events are a diary, not a history: old ones are forgotten, and floods are counted.

CREATE OR REPLACE FUNCTION peer_internal.count_failures(failures jsonb) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO peer_internal.failure AS f (kind, peer_id, phase, code, count)
    SELECT u.kind, coalesce(a.peer_id, ''), coalesce(u.phase, ''), u.code, sum(u.count)
      FROM jsonb_to_recordset(count_failures.failures) AS u(kind text, peer_id text, phase text, code text, count bigint)
      -- whoever is nobody here gets no row: anybody can make as many keys as he likes
      LEFT JOIN peer_internal.author AS a ON a.peer_id = u.peer_id
     GROUP BY 1, 2, 3, 4
     ORDER BY 1, 2, 3, 4
    ON CONFLICT ON CONSTRAINT failure_pkey DO UPDATE SET count = f.count + EXCLUDED.count, last_at = clock_timestamp()
$$;
COMMENT ON FUNCTION peer_internal.count_failures(jsonb) IS 'Adds to the counts of peer.failure: [{kind, peer_id, phase, code, count}].';

CREATE OR REPLACE FUNCTION peer_internal.is_lasting_event(kind text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (is_lasting_event.kind LIKE 'join%' AND is_lasting_event.kind <> 'join-refused') OR is_lasting_event.kind LIKE 'member-%'
        OR is_lasting_event.kind LIKE 'friend-%' OR is_lasting_event.kind LIKE 'device-%' OR is_lasting_event.kind IN ('role-changed', 'epoch-renewed')
$$;
COMMENT ON FUNCTION peer_internal.is_lasting_event(text) IS 'Whether events of this kind tell of members, roles, friends, devices, joins or the identity: people may want to know of them long after.';

CREATE OR REPLACE FUNCTION peer_internal.prune_events(max_rows int) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retention interval;
    count_max bigint;
    ordinary_floor bigint;
    lasting_floor bigint;
    result bigint;
BEGIN
    SELECT c.event_retention, c.event_count_max INTO STRICT retention, count_max FROM peer.config AS c;
    -- a flood of the one kind pushes out nothing of the other
    SELECT e.id INTO ordinary_floor FROM peer.event AS e WHERE NOT peer_internal.is_lasting_event(e.kind) ORDER BY e.id DESC OFFSET count_max LIMIT 1;
    SELECT e.id INTO lasting_floor FROM peer.event AS e WHERE peer_internal.is_lasting_event(e.kind) ORDER BY e.id DESC OFFSET count_max LIMIT 1;
    DELETE FROM peer.event AS e
     WHERE e.id IN (SELECT o.id FROM peer.event AS o
                     WHERE CASE WHEN peer_internal.is_lasting_event(o.kind) THEN o.id <= lasting_floor
                                ELSE o.id <= ordinary_floor OR o.at < clock_timestamp() - retention END
                     ORDER BY o.id LIMIT prune_events.max_rows);
    GET DIAGNOSTICS result = ROW_COUNT;
    RETURN result;
END
$$;
COMMENT ON FUNCTION peer_internal.prune_events(int) IS 'Forgets at most so many old rows of peer.event, as peer.config says, and tells how many. Lasting events are forgotten only when there are too many of them.';
