"""SQL and Python make the same bytes: headers, ids, fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fixtures.databases import Database

GOLDEN = Path(__file__).parents[1] / "commit" / "golden"


def golden(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return loaded


def value(connection: psycopg.Connection, query: str, *parameters: object) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("name", ["header_minimal.json", "header_full.json", "header_boundaries.json"])
def test_sql_encodes_a_commit_header_as_python_does(database: Database, name: str) -> None:
    made = golden(name)
    header = made["header"]
    connection = database.connect()
    sections = [
        value(
            connection,
            "SELECT peer_internal.encode_section_header(%s, %s, %s::bigint, %s::bigint, %s::bytea[], %s::uuid[], %s)",
            section["op"],
            bytes.fromhex(section["digest"]),
            section["rows"],
            section["bytes"],
            [bytes.fromhex(digest) for digest in section["unseen"]],
            section["columns"],
            section["relation"],
        )
        for section in header["sections"]
    ]
    encoded = value(
        connection,
        "SELECT peer_internal.encode_header(%s, %s, %s::bigint, %s::bigint, %s, %s::bytea[], %s::bigint, %s, %s, %s::bytea[])",
        header["bundle"],
        bytes.fromhex(header["author"]),
        header["epoch"],
        header["seq"],
        bytes.fromhex(header["prev"]) if header["prev"] else None,
        [bytes.fromhex(digest) for digest in header["parents"]],
        header["hlc"],
        bytes.fromhex(header["schema"]),
        header["message"],
        sections,
    )
    assert encoded.hex() == made["encoded"]
    digest = bytes.fromhex(made["digest"])
    assert value(connection, "SELECT sha256(%s)", encoded) == digest
    assert value(connection, "SELECT peer_internal.commit_id(%s)", digest) == made["commit_id"]


def test_sql_derives_peer_ids_and_section_ids_as_python_does(database: Database) -> None:
    connection = database.connect()
    peer = golden("peer_id.json")
    key = bytes.fromhex(peer["public_key"])
    assert value(connection, "SELECT peer_internal.peer_id(%s)", key) == peer["peer_id"]
    assert value(connection, "SELECT peer_internal.public_key(%s)", peer["peer_id"]) == key
    assert value(connection, "SELECT peer_internal.public_key(%s)", peer["peer_id"][:-1] + "a") is None
    section = golden("section.json")
    digest = bytes.fromhex(section["digest"])
    assert value(connection, "SELECT sha256(convert_to(%s, 'UTF8'))", section["data"]) == digest
    assert value(connection, "SELECT peer_internal.section_id(%s)", digest) == section["section_id"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "\\",
        "\\N",
        "a\tb",
        "a\nb",
        "a\rb",
        "\\t",
        "\\\\t",
        "\\\t\\n\n\\",
        "\\\\\\",
        "ü\\ñ\t",
        "\x01\x08",
    ],
)
def test_a_field_survives_escaping_and_is_one_field_of_one_line(database: Database, text: str) -> None:
    connection = database.connect()
    field = value(connection, "SELECT peer_internal.escape_field(%s)", text)
    assert not {"\t", "\n", "\r"} & set(field)
    assert field != "\\N"
    assert value(connection, "SELECT peer_internal.unescape_field(%s)", field) == text


@pytest.mark.parametrize(
    ("data", "lines"), [("\n", [""]), ("a\n", ["a"]), ("\n\n", ["", ""]), ("a\nb\n", ["a", "b"])]
)
def test_a_section_is_split_into_its_lines_even_when_they_are_empty(
    database: Database, data: str, lines: list[str]
) -> None:
    assert value(database.connect(), "SELECT peer_internal.section_lines(%s)", data) == lines
