"""The same change makes the same section bytes on every server, in every locale, under every setting.

The golden file holds the sections of three commits; to renew it after an intended change of the format, delete it and run this
file: the first test writes it anew and fails. A change of the file changes the ids of all commits made from then on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from capture.values import DDL, VALUES
from fixtures.databases import Databases
from fixtures.versions import EMBEDDED, SECOND

from pgpeer.store.install import install

GOLDEN = Path(__file__).parent / "golden" / "sections.json"
EXTENSIONS = ("hstore", "citext", "ltree", "cube", "xml")
TYPES = [name for name in VALUES if not name.startswith(EXTENSIONS)]
BUNDLE = "11111111-2222-3333-4444-555555555555"

Section = dict[str, object]

GERMAN = "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-ks-level1' LOCALE 'C.UTF-8'"
PLACES = {
    "18, C": (EMBEDDED, "LOCALE 'C'"),
    "18, builtin Unicode": (EMBEDDED, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'"),
    f"{SECOND}, C.UTF-8": (SECOND, "LOCALE 'C.UTF-8'"),
    # PostgreSQL 14 knows ICU for collations, and not for a database
    f"{SECOND}, German": (SECOND, GERMAN if int(SECOND) >= 15 else "LOCALE 'POSIX'"),
}
SETTINGS = {
    "as installed": {},
    "German": {
        "DateStyle": "German, DMY",
        "IntervalStyle": "postgres_verbose",
        "TimeZone": "Asia/Kathmandu",
        "lc_monetary": "C.UTF-8",
        "lc_numeric": "C.UTF-8",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
    },
    "old": {
        "DateStyle": "SQL, MDY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "America/New_York",
        "extra_float_digits": "3",
        "standard_conforming_strings": "off",
        "backslash_quote": "on",
        "quote_all_identifiers": "on",
        "array_nulls": "off",
        "xmloption": "document",
        "client_encoding": "LATIN1",
        "search_path": "",
        "default_text_search_config": "german",
        "transform_null_equals": "on",
        "enable_hashagg": "off",
        "enable_sort": "off",
        "work_mem": "64kB",
    },
}


@contextmanager
def place(databases: Databases, version: str, options: str) -> Iterator[str]:
    """A database with pgpeer installed, of a version and a locale; its address."""
    cluster = databases.cluster(version)
    name = "golden_" + hashlib.sha256(options.encode()).hexdigest()[:8]
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        try:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {options}".encode()
            )
        except psycopg.errors.FeatureNotSupported as error:
            pytest.skip(f"this PostgreSQL {version} has no such locale: {error}")
    try:
        install(cluster.dsn(name))
        yield cluster.dsn(name)
    finally:
        databases.drop_named(cluster, name)


def write(connection: psycopg.Connection, statements: list[str]) -> None:
    with connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())


def prepare(dsn: str) -> None:
    """Tables with a column of every type, and a bundle whose id is always the same."""
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(TYPES))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT peer_internal.set_identity(sha256('golden'), 'golden')")
        write(connection, [statement for statement in DDL if "EXTENSION" not in statement])
        write(
            connection,
            [
                f"CREATE TABLE thing (id integer PRIMARY KEY, {columns})",
                "CREATE TABLE word (word text, part varchar(9), n integer, PRIMARY KEY (word, part))",
                f"SELECT peer_internal.adopt_bundle('{BUNDLE}', 'golden', 'auto')",
            ],
        )


def rows() -> list[str]:
    domain = f"c{TYPES.index('short')}"
    made = [f"INSERT INTO thing (id, {domain}) VALUES (0, '')"]
    for row in range(max(len(VALUES[name]) for name in TYPES)):
        picked = [VALUES[name][row % len(VALUES[name])] for name in TYPES]
        made.append(f"INSERT INTO thing VALUES ({row + 1}, {', '.join(picked)})")
    words = [
        "a",
        "B",
        "ä",
        "Z",
        "z",
        "_",
        "-",
        "a b",
        "ab",
        "10",
        "9",
        "",
        "\u00e9",
        "e\u0301",
        "ﬀ",
        "🐘",
        "~",
        "A",
    ]
    values = ", ".join(
        f"('{word}', '{part}', {n})" for n, word in enumerate(words) for part in ("", "x", "é")
    )
    return [*made, f"INSERT INTO word VALUES {values}"]


def sections(dsn: str, settings: dict[str, str]) -> list[Section]:
    """The sections of the commits that the same changes make, one after the other."""
    writes = [
        rows(),
        [
            f"UPDATE thing SET c{TYPES.index('text')} = 'x' WHERE id < 3",
            f"UPDATE thing SET c{TYPES.index('money')} = NULL, c{TYPES.index('integer[]')} = '{{}}' WHERE id > 9",
            "DELETE FROM word WHERE n % 2 = 0",
        ],
        ["UPDATE word SET n = -n", "DELETE FROM thing WHERE id = 3", "INSERT INTO word VALUES ('new', 'ö')"],
    ]
    with psycopg.connect(dsn, autocommit=True) as user, psycopg.connect(dsn, autocommit=True) as worker:
        user.execute("SET TimeZone = 'UTC'")
        for name, setting in settings.items():
            worker.execute("SELECT set_config(%s, %s, false)", [name, setting])
        with worker.transaction():
            worker.execute("SELECT peer.track('golden', 'public.thing'), peer.track('golden', 'public.word')")
        for statements in writes:
            write(user, statements)
            worker.execute("SELECT peer.commit('golden')")
        found = user.execute(
            "SELECT s.op, s.relation_id::text, s.column_ids::text, s.row_count, s.first_key, s.last_key, encode(s.digest, 'hex'), s.data"
            " FROM peer_internal.section AS s JOIN peer_internal.commit AS c USING (commit_no) ORDER BY c.seq, s.section_no"
        ).fetchall()
    names = ("op", "relation", "columns", "rows", "first", "last", "digest", "data")
    return [dict(zip(names, row, strict=True)) for row in found]


def test_the_digests_of_the_golden_file_are_those_of_its_bytes(databases: Databases) -> None:
    if not GOLDEN.exists():
        with place(databases, *PLACES["18, C"]) as dsn:
            prepare(dsn)
            made = sections(dsn, {})
        GOLDEN.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        pytest.fail("the golden file was missing and has been written: look at it")
    for section in json.loads(GOLDEN.read_text(encoding="utf-8")):
        assert hashlib.sha256(section["data"].encode()).hexdigest() == section["digest"]
        lines = section["data"].split("\n")[:-1]
        assert len(lines) == section["rows"]
        if section["op"] != "SCHEMA":
            keys = (
                1
                if section["relation"] == json.loads(GOLDEN.read_text(encoding="utf-8"))[0]["relation"]
                else 2
            )
            found = ["\t".join(line.split("\t")[:keys]) for line in lines]
            # COLLATE "C" of UTF-8 is the order of bytes
            assert sorted(found, key=str.encode) == found


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("where", PLACES)
def test_the_same_change_makes_the_same_bytes(databases: Databases, where: str, settings: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    with place(databases, *PLACES[where]) as dsn:
        prepare(dsn)
        made = sections(dsn, SETTINGS[settings])
    assert [s["op"] for s in made] == [s["op"] for s in golden]
    for mine, theirs in zip(made, golden, strict=True):
        assert mine == theirs
