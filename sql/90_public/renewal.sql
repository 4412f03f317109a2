-- The end of every installation and upgrade: what is stored for tracked tables becomes that of this version.

DO $$
BEGIN
    PERFORM peer_internal.rebuild_tracked();
END
$$;
