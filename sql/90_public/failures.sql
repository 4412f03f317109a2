-- How often what went wrong. The rows of peer.event are the diary of it; these are the sums.

CREATE OR REPLACE VIEW peer.failure AS
SELECT f.kind, nullif(f.peer_id, '') AS peer_id, nullif(f.phase, '') AS phase, f.code, f.count, f.first_at, f.last_at
  FROM peer_internal.failure AS f;
COMMENT ON VIEW peer.failure IS 'How often something went wrong, by kind of event, peer, phase and code, since first_at. peer_id is NULL for strangers.';
