-- Nothing is for everybody. Writers of tracked tables need no right here: capture runs with the rights of its owner.

DO $$
DECLARE
    f regprocedure;
BEGIN
    -- the functions of tracked tables were closed when they were made, and are not the extension's
    FOR f IN SELECT p.oid FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
              WHERE n.nspname IN ('peer', 'peer_internal') AND p.proname !~ '^capture_[a-z]+_[0-9]+$' LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
    END LOOP;
END
$$;
REVOKE ALL ON SCHEMA peer, peer_internal FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA peer, peer_internal FROM PUBLIC;
