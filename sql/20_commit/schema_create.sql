-- A table made from its description. The description was sent by another peer: it is checked member by member first, and what was
-- made of it is checked once more at the end.

CREATE OR REPLACE FUNCTION peer_internal.create_described_schema(name text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF peer_internal.is_reserved_schema(name) THEN
        PERFORM peer_internal.refuse_description('PGS02', 'schema', format('the schema %I is reserved', name), NULL);
    ELSIF to_regnamespace(quote_ident(name)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', name);
    END IF;
END
$$;
COMMENT ON FUNCTION peer_internal.create_described_schema(text) IS 'Creates the schema of a described table or type unless it exists.';

CREATE OR REPLACE FUNCTION peer_internal.create_described_type(type jsonb, place text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    difference text;
    statement text;
    item record;
BEGIN
    IF peer_internal.resolve_type(type || '{"array": false}') IS NOT NULL OR type ->> 'kind' IN ('other', 'extension') THEN
        PERFORM peer_internal.type_sql(type || '{"array": false, "modifier": -1}', place);
        difference := peer_internal.type_difference(type);
        IF difference IS NOT NULL THEN
            PERFORM peer_internal.refuse_description('PGS06', place, difference, 'Rename or change the type here, then join again.');
        END IF;
        RETURN;
    END IF;
    PERFORM peer_internal.create_described_schema(type ->> 'schema');
    IF type ->> 'kind' = 'enum' THEN
        EXECUTE format('CREATE TYPE %I.%I AS ENUM (%s)', type ->> 'schema', type ->> 'name',
            (SELECT string_agg(quote_literal(l.label), ', ' ORDER BY l.place)
               FROM jsonb_array_elements_text(type -> 'labels') WITH ORDINALITY AS l(label, place)));
        RETURN;
    END IF;
    statement := format('CREATE DOMAIN %I.%I AS %s%s%s%s', type ->> 'schema', type ->> 'name',
        peer_internal.type_sql(type -> 'base', place || '.base'),
        peer_internal.collation_sql(coalesce(type -> 'collation', 'null'), place),
        CASE WHEN jsonb_typeof(type -> 'default') = 'array' AND peer_internal.missing_function(type -> 'default') IS NULL
             THEN ' DEFAULT ' || peer_internal.expression_sql(type -> 'default', place || '.default') END,
        CASE WHEN (type ->> 'not_null')::boolean THEN ' NOT NULL' END);
    FOR item IN SELECT c.item FROM jsonb_array_elements(type -> 'checks') AS c(item) LOOP
        statement := statement || format(' CONSTRAINT %I CHECK %s', item.item ->> 'name',
                                         peer_internal.expression_sql(item.item -> 'expression', place || '.checks'));
    END LOOP;
    EXECUTE statement;
END
$$;
COMMENT ON FUNCTION peer_internal.create_described_type(jsonb, text) IS
    'Creates a described enum or domain. One that exists must be equal (PGS06); types of extensions must exist (PGS04).';

CREATE OR REPLACE FUNCTION peer_internal.create_table_sql(description jsonb) RETURNS text
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts text[] := '{}';
    key jsonb := nullif(description -> 'primary_key', 'null');
    r record;
BEGIN
    FOR r IN SELECT c.item, c.number FROM jsonb_array_elements(description -> 'columns') WITH ORDINALITY AS c(item, number) LOOP
        parts := parts || peer_internal.column_sql(r.item, format('columns[%s]', r.number));
    END LOOP;
    IF key IS NOT NULL THEN
        parts := parts || format('CONSTRAINT %I PRIMARY KEY (%s)%s', key ->> 'name',
                                 peer_internal.column_names_sql(key -> 'columns'), peer_internal.deferrable_sql(key));
    END IF;
    FOR r IN SELECT u.item, u.number FROM jsonb_array_elements(description -> 'unique') WITH ORDINALITY AS u(item, number) LOOP
        parts := parts || format('CONSTRAINT %I UNIQUE%s (%s)%s', r.item ->> 'name',
            peer_internal.nulls_not_distinct_sql(r.item, format('unique[%s]', r.number)),
            peer_internal.column_names_sql(r.item -> 'columns'), peer_internal.deferrable_sql(r.item));
    END LOOP;
    FOR r IN SELECT c.item, c.number FROM jsonb_array_elements(description -> 'checks') WITH ORDINALITY AS c(item, number)
              WHERE NOT coalesce((c.item ->> 'not_valid')::boolean, false) LOOP
        parts := parts || format('CONSTRAINT %I CHECK %s', r.item ->> 'name',
                                 peer_internal.expression_sql(r.item -> 'expression', format('checks[%s]', r.number)));
    END LOOP;
    RETURN format(E'CREATE TABLE %I.%I (\n    %s)', description ->> 'schema', description ->> 'name', array_to_string(parts, E',\n    '));
END
$$;
COMMENT ON FUNCTION peer_internal.create_table_sql(jsonb) IS 'The CREATE TABLE statement of a checked description whose types exist.';

CREATE OR REPLACE FUNCTION peer_internal.foreign_function(relation oid) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
    -- functions that came with PostgreSQL leave no trace in pg_depend; any other does
    SELECT min(d.refobjid::regprocedure::text)
      FROM pg_depend AS d
     WHERE d.refclassid = 'pg_proc'::regclass
       AND (d.classid, d.objid) IN (
               SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef AS a WHERE a.adrelid = foreign_function.relation
               UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c
                          WHERE c.conrelid = foreign_function.relation
                             OR c.contypid IN (SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = foreign_function.relation)
               UNION ALL SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index AS i WHERE i.indrelid = foreign_function.relation)
$$;
COMMENT ON FUNCTION peer_internal.foreign_function(oid) IS
    'A function that is not built in and that an expression of this table calls, or NULL.';

CREATE OR REPLACE FUNCTION peer_internal.create_relation(description jsonb) RETURNS regclass
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    -- literals are read as they were written
    SET quote_all_identifiers = off SET standard_conforming_strings = on SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
    SET timezone = 'UTC' SET lc_monetary = 'C' SET array_nulls = on
AS $$
DECLARE
    relation regclass;
    target text;
    difference text;
    r record;
BEGIN
    PERFORM peer_internal.check_description(description);
    target := format('%I.%I', description ->> 'schema', description ->> 'name');
    relation := peer_internal.described_relation(description);
    IF relation IS NOT NULL THEN
        difference := peer_internal.schema_difference(relation, description);
        IF difference IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'PGS05', MESSAGE = format('%s exists here and differs from the table of the peer', target),
                DETAIL = difference, HINT = 'Change or rename the table here, then join again; no row was touched.';
        END IF;
        RETURN relation;
    END IF;
    BEGIN
        PERFORM peer_internal.create_described_schema(description ->> 'schema');
        FOR r IN SELECT t.item, t.number FROM jsonb_array_elements(description -> 'types') WITH ORDINALITY AS t(item, number) LOOP
            PERFORM peer_internal.create_described_type(r.item, format('types[%s]', r.number));
        END LOOP;
        EXECUTE peer_internal.create_table_sql(description);
        relation := peer_internal.described_relation(description);
        FOR r IN SELECT c.item FROM jsonb_array_elements(description -> 'columns') AS c(item)
                  WHERE c.item -> 'default' = '{"serial": true}' AND NOT (c.item ->> 'not_null')::boolean LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', target, r.item ->> 'name');
        END LOOP;
        FOR r IN SELECT c.item, c.number FROM jsonb_array_elements(description -> 'checks') WITH ORDINALITY AS c(item, number)
                  WHERE (c.item ->> 'not_valid')::boolean LOOP
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK %s NOT VALID', target, r.item ->> 'name',
                           peer_internal.expression_sql(r.item -> 'expression', format('checks[%s]', r.number)));
        END LOOP;
        FOR r IN SELECT i.item, i.number FROM jsonb_array_elements(description -> 'indexes') WITH ORDINALITY AS i(item, number) LOOP
            EXECUTE peer_internal.index_sql(r.item, target, format('indexes[%s]', r.number));
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        -- a definition that PostgreSQL refuses is the description's fault; missing rights, time-outs and full disks are not
        IF left(SQLSTATE, 2) NOT IN ('0A', '22', '42', '54') OR SQLSTATE = '42501' THEN
            RAISE;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'PGS09', MESSAGE = format('PostgreSQL refuses to create %s from its description', target),
            DETAIL = format('%s (%s)', SQLERRM, SQLSTATE), HINT = 'Create the table by hand as it is on the peer, then join again.';
    END;
    difference := coalesce('it calls ' || peer_internal.foreign_function(relation), peer_internal.schema_difference(relation, description));
    IF difference IS NOT NULL THEN
        PERFORM peer_internal.refuse_description('PGS03', 'the table that was made of it', difference, NULL);
    END IF;
    PERFORM peer_internal.create_missing_foreign_keys(description);
    RETURN relation;
END
$$;
COMMENT ON FUNCTION peer_internal.create_relation(jsonb) IS
    'Creates a table, with its schema, types, keys, checks, indexes, and the foreign keys whose referenced tables exist, from a '
    'description that peer_internal.describe_relation made on a peer; call peer_internal.create_missing_foreign_keys when more tables '
    'exist. A table of that name that is equal for replication is kept as it is and given back; any other raises. A description never '
    'becomes SQL text unchecked. Raises PGS01 malformed, PGS02 name, PGS03 expression, PGS04 type or collation absent, PGS05 table '
    'differs, PGS06 type differs, PGS07 cannot be made here, PGS08 foreign key does not fit, PGS09 refused by PostgreSQL.';

REVOKE ALL ON FUNCTION peer_internal.create_described_schema(text), peer_internal.create_described_type(jsonb, text),
    peer_internal.create_table_sql(jsonb), peer_internal.foreign_function(oid), peer_internal.create_relation(jsonb) FROM PUBLIC;
