-- Devices of one owner, as people see them.

CREATE OR REPLACE FUNCTION peer.owner() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT o.owner FROM peer_internal.owner AS o
$$;
COMMENT ON FUNCTION peer.owner() IS 'The id of the owner''s key of which this database is a device; NULL: it has no owner. pgpeer owner adopt gives it one.';

DROP VIEW IF EXISTS peer.device;
CREATE VIEW peer.device AS
SELECT d.peer_id, d.label, CASE WHEN d.is_revoked THEN 'revoked' WHEN d.peer_id = peer.identity() THEN 'here' ELSE 'device' END AS state, d.received_at AS known_since
  FROM peer_internal.device AS d JOIN peer_internal.owner AS o USING (owner);
COMMENT ON VIEW peer.device IS 'The devices of the owner of this database that it has heard of: here (this one), device, or revoked.';
