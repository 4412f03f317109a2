"""`pgpeer verify`: recomputes what the database claims to hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgpeer.cli.database import Database, chosen_bundle, open_database
from pgpeer.cli.options import Bundle, Dsn, Json, required_dsn
from pgpeer.cli.output import Row, print_json, print_lines, tell
from pgpeer.commit.cid import commit_id
from pgpeer.commit.header import Header
from pgpeer.commit.signature import verify_commit
from pgpeer.errors import CommitError

_FAILED = 1

_RELATIONS = """
    SELECT r.relation_id, r.relation::text AS relation FROM peer_internal.relation AS r
     WHERE r.bundle_id = peer_internal.bundle_id(%(bundle)s) AND r.is_tracked ORDER BY 2
"""
# Rows with uncommitted changes are compared once they are committed.
_ROWS = """
    WITH dirty AS MATERIALIZED (
             SELECT d.key_text FROM peer_internal.dirty_rows(%(relation_id)s::uuid) AS d),
         state AS MATERIALIZED (
             SELECT s.* FROM peer_internal.row_state(%(relation_id)s::uuid, NULL, NULL, '{}') AS s),
         working AS MATERIALIZED (
             SELECT w.* FROM peer_internal.working_rows(%(relation_id)s::uuid, NULL) AS w),
         pair AS MATERIALIZED (
             SELECT coalesce(s.key_text, w.key_text) AS key_text,
                    CASE WHEN w.key_text IS NULL THEN 'missing' WHEN s.key_text IS NULL THEN 'unexpected'
                         WHEN s.fields IS DISTINCT FROM w.fields THEN 'different' END AS difference
               FROM state AS s FULL JOIN working AS w ON w.key_text = s.key_text
              WHERE NOT EXISTS (SELECT FROM dirty AS d WHERE d.key_text = coalesce(s.key_text, w.key_text)))
    SELECT count(*) AS rows, (SELECT count(*) FROM dirty) AS uncommitted, count(p.difference) AS wrong,
           (SELECT coalesce(json_agg(json_build_object(
                       'key', peer_internal.key_json(%(relation_id)s::uuid, x.key_text),
                       'difference', x.difference)), '[]')
              FROM (SELECT q.* FROM pair AS q WHERE q.difference IS NOT NULL
                     ORDER BY q.key_text COLLATE "C" LIMIT 10) AS x) AS examples
      FROM pair AS p
"""
_COMMITS = """
    SELECT c.commit_no, c.digest, c.header, c.signature, a.public_key,
           ARRAY(SELECT s.digest FROM peer_internal.section AS s
                  WHERE s.commit_no = c.commit_no ORDER BY s.section_no) AS sections,
           ARRAY(SELECT s.section_no FROM peer_internal.section AS s
                  WHERE s.commit_no = c.commit_no AND (s.data IS NULL OR s.digest
                        <> pg_catalog.sha256(pg_catalog.convert_to(s.data, 'UTF8')))) AS broken
      FROM peer_internal.commit AS c JOIN peer_internal.author AS a USING (author_id)
     WHERE c.bundle_id = peer_internal.bundle_id(%(bundle)s) AND c.state = 'merged'
     ORDER BY c.position
"""


def run(
    bundle: Bundle = None,
    only_history: Annotated[
        bool, typer.Option("--history", help="Check only commits, not the rows of the tables.")
    ] = False,
    dsn: Dsn = None,
    as_json: Json = False,
) -> None:
    """Check history and tables of a bundle.

    Recomputes hash, signature and sections of every commit, and compares the tables with them. Rows with
    uncommitted changes are left out. Exit code 1 when anything is wrong.
    """
    with open_database(required_dsn(dsn)) as database:
        name = chosen_bundle(database, bundle)
        with database.transaction(one_snapshot=True):
            commits, unsigned, faults = _check_history(database, name)
            # The state of rows is computed from the sections, which must be sound for that.
            relations = [] if only_history or faults else _check_rows(database, name)
    wrong = len(faults) + sum(row["wrong"] for row in relations)
    if as_json:
        print_json(
            {
                "bundle": name,
                "commits": commits,
                "unsigned": unsigned,
                "faults": faults,
                "relations": relations,
                "ok": wrong == 0,
            }
        )
    else:
        print_lines([f"{commits} commits: {len(faults)} faults, {unsigned} not signed yet"])
        print_lines(_sentence(row) for row in relations)
        print_lines(["All is well." if wrong == 0 else "The bundle is damaged."])
    for fault in faults:
        tell(f"error: {fault}")
    for row in relations:
        for example in row["examples"]:
            tell(f"error: {row['relation']} {example['key']} is {example['difference']} in the table")
    if wrong:
        tell("remedy: restore the database from a backup, or leave the bundle and join it again.")
        raise typer.Exit(_FAILED)


def _check_history(database: Database, bundle: str) -> tuple[int, int, list[str]]:
    """How many commits there are, how many wait for a signature, and what is wrong with any."""
    count = unsigned = 0
    faults = []
    with database.connection.cursor() as cursor:
        cursor.execute(_COMMITS.encode(), {"bundle": bundle})
        for _, digest, header, signature, public_key, sections, broken in cursor:
            count += 1
            unsigned += signature is None
            faults += _faults(digest, header, signature, public_key, sections)
            faults += [f"Section {number} of commit {commit_id(digest)} is damaged." for number in broken]
    return count, unsigned, faults


def _faults(
    digest: bytes, header: bytes, signature: bytes | None, public_key: bytes, sections: list[bytes]
) -> list[str]:
    try:
        decoded = Header.decode(header)
        if decoded.digest != digest:
            return [f"The header of commit {commit_id(digest)} has another hash."]
        if decoded.author != public_key:
            return [f"Commit {commit_id(digest)} stands under another author."]
        if [section.digest for section in decoded.sections] != sections:
            return [f"The sections of commit {commit_id(digest)} are not those of its header."]
        if signature is not None:
            verify_commit(public_key, digest, signature)
    except CommitError as error:
        return [f"Commit {commit_id(digest)}: {error}"]
    return []


def _check_rows(database: Database, bundle: str) -> list[Row]:
    relations = database.rows(_RELATIONS, {"bundle": bundle})
    return [_check_relation(database, row) for row in relations]


def _check_relation(database: Database, relation: Row) -> dict[str, Any]:
    return {"relation": relation["relation"]} | database.rows(_ROWS, relation)[0]


def _sentence(row: Row) -> str:
    left_out = f", {row['uncommitted']} with uncommitted changes left out" if row["uncommitted"] else ""
    return f"{row['relation']}: {row['rows']} rows compared, {row['wrong']} wrong{left_out}"
