-- A row that is put into peer.config takes the place of the one there: the settings in a dump of a database that has
-- pgpeer as an extension replace the defaults that CREATE EXTENSION has just made.

CREATE FUNCTION peer_internal.replace_config() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM peer.config;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION peer_internal.replace_config() IS 'Trigger: peer.config has one row; a new one takes its place.';

CREATE TRIGGER replace_config BEFORE INSERT ON peer.config FOR EACH ROW EXECUTE FUNCTION peer_internal.replace_config();
