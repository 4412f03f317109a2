"""What the SQL scripts check before they change anything, in SQL; `preconditions` says the same in Python."""

from __future__ import annotations

from typing import Final

ABLE: Final = """\
DECLARE
    database name := current_database();
    encoding text := current_setting('server_encoding');
    number int := current_setting('server_version_num');
    before text := current_setting('session_replication_role');
    missing text := '';
BEGIN
    IF number < 140000 THEN
        RAISE EXCEPTION 'This is PostgreSQL %; pgpeer needs version 14 or newer.',
            current_setting('server_version')
            USING ERRCODE = 'feature_not_supported', HINT = 'Upgrade the server.';
    END IF;
    IF encoding <> 'UTF8' THEN
        RAISE EXCEPTION 'The database % is encoded in %; pgpeer needs UTF8.', database, encoding
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Make a database with ENCODING ''UTF8'' and move the tables there.';
    END IF;
    IF NOT has_database_privilege(database, 'CREATE') THEN
        missing := format(' GRANT CREATE ON DATABASE %I TO %I;', database, current_user);
    END IF;
    BEGIN  -- tries it: the rule differs between versions and between providers
        PERFORM set_config('session_replication_role', 'replica', true);
        PERFORM set_config('session_replication_role', before, true);
    EXCEPTION WHEN insufficient_privilege THEN
        missing := missing || format(
            CASE WHEN number >= 150000 THEN ' GRANT SET ON PARAMETER session_replication_role TO %I;'
                 ELSE ' ALTER ROLE %I SUPERUSER; (before version 15)' END, current_user);
    END;
    IF missing <> '' THEN
        RAISE EXCEPTION 'The role % lacks rights that pgpeer needs in the database %.', current_user, database
            USING ERRCODE = 'insufficient_privilege', HINT = 'As a superuser run:' || missing;
    END IF;
END"""
"""Every way: the server, the database and the role are such that pgpeer can work."""

NOT_AN_EXTENSION: Final = """\
DECLARE
    owner oid := (SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'peer_internal');
    taken name := (SELECT n.nspname FROM pg_namespace AS n
                    WHERE n.nspname IN ('peer', 'peer_internal') ORDER BY 1 LIMIT 1);
BEGIN
    IF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pgpeer') THEN
        RAISE EXCEPTION 'In the database % pgpeer is installed as an extension.', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Use ALTER EXTENSION pgpeer UPDATE instead of this file.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'peer_internal' AND c.relname = 'schema_version') THEN
        IF taken IS NOT NULL THEN
            RAISE EXCEPTION 'The database % has a schema % that is not pgpeer''s.', current_database(), taken
                USING ERRCODE = 'duplicate_schema',
                      HINT = format('Rename it: ALTER SCHEMA %I RENAME TO another_name;', taken);
        END IF;
    ELSIF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'pgpeer in the database % belongs to the role %, not to %.',
            current_database(), pg_get_userbyid(owner), current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Connect as %1$I, or: GRANT %1$I TO %2$I;',
                                pg_get_userbyid(owner), current_user);
    END IF;
END"""
"""The plain file: pgpeer is not here, or came by this way or by `pgpeer init`."""

ONLY_AN_EXTENSION: Final = """\
DECLARE
    other name := (SELECT n.nspname FROM pg_namespace AS n
                    WHERE n.nspname IN ('peer', 'peer_internal')
                      AND NOT EXISTS (SELECT
                                        FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                                       WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
                                         AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
                                         AND e.extname = 'pgpeer')
                    ORDER BY 1 LIMIT 1);
BEGIN
    IF other IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = 'peer_internal' AND c.relname = 'schema_version') THEN
        RAISE EXCEPTION 'In the database % pgpeer is there already, and not as an extension.',
            current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Go on without the extension: pgpeer init upgrades it. '
                         'To make it one, its history would have to go first: pgpeer uninstall.';
    END IF;
    RAISE EXCEPTION 'The database % has a schema % that is not pgpeer''s.', current_database(), other
        USING ERRCODE = 'duplicate_schema',
              HINT = format('Rename it: ALTER SCHEMA %I RENAME TO another_name;', other);
END"""
"""The extension: its schemas are not here, or are its own."""
