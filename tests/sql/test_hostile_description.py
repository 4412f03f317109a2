"""A description from a hostile peer runs no SQL and calls nothing that is not on the list."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .describing import create, describe, difference, refused, token
from .tables import SMALL

PAYLOADS = [
    "x'); SELECT public.attack(); --",
    'x"); SELECT public.attack(); --',
    "x\\'); SELECT public.attack(); -- $$ %I %s",
    "attack",
    "pg_catalog",
    "",
    "a" * 64,
]

PREPARE = """
CREATE TABLE public.witness (n int);
CREATE FUNCTION public.attack() RETURNS int LANGUAGE sql VOLATILE AS
    'INSERT INTO public.witness VALUES (1) RETURNING 1';
CREATE FUNCTION public.attack(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TYPE public.pair AS (a int, b text);
CREATE EXTENSION citext;
"""

Path = tuple[str | int, ...]


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every scalar of a document with the way to it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path, value


def nodes(value: object, path: Path = ()) -> Iterator[Path]:
    """The way to every value of a document, itself excepted."""
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, item in items:
        yield (*path, name)
        yield from nodes(item, (*path, name))


def changed(document: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    result = copy.deepcopy(document)
    at: Any = result
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return result


@pytest.fixture
def city(db: psycopg.Connection) -> dict[str, Any]:
    """The description of a table that does not exist here, beside a function that must never run."""
    db.execute(PREPARE)
    db.execute(SMALL)
    described = describe(db, "shop.city")
    db.execute("DROP TABLE shop.city; DROP DOMAIN shop.price; DROP TYPE shop.mood")
    return described


def inventory(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Relations beside the described one, functions, and the rows of the witness."""
    return db.execute(
        "SELECT c.relname::text FROM pg_class AS c"
        " WHERE c.relnamespace IN ('public'::regnamespace, 'peer_internal'::regnamespace)"
        " UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.oid >= 16384"
        " UNION ALL SELECT n::text FROM public.witness ORDER BY 1"
    ).fetchall()


def attempt(db: psycopg.Connection, description: dict[str, Any]) -> dict[str, Any] | None:
    """Creates the table, or is refused with an SQLSTATE of ours; whatever happens, nothing else is touched.

    Returns what describes the table that was made.
    """
    before = inventory(db)
    made = None
    refusal: psycopg.Error | None
    with db.transaction(force_rollback=True):
        try:
            with db.transaction():
                relation = create(db, description)
        except psycopg.Error as error:
            refusal = error
        else:
            refusal = None
            made = describe(db, relation)
            assert difference(db, relation, description) is None
            run(db, relation)
        if refusal is not None:
            assert (refusal.sqlstate or "").startswith("PGS"), refusal
            assert refusal.diag.message_detail
            assert refusal.diag.message_hint
        assert set(inventory(db)) == set(before)
    return made


def run(db: psycopg.Connection, relation: str) -> None:
    """Runs the defaults, checks and index expressions of a table: what they call must be harmless."""
    try:
        with db.transaction():
            db.execute(f"INSERT INTO {relation} DEFAULT VALUES".encode())
    except (psycopg.errors.IntegrityError, psycopg.errors.DataError):
        pass


def test_no_text_of_a_description_can_be_an_injection(db: psycopg.Connection, city: dict[str, Any]) -> None:
    # one place of each shape is enough: the third token of a list is checked as the first one is
    shapes: dict[tuple[object, ...], Path] = {}
    for path, value in leaves(city):
        if isinstance(value, str):
            kind = _at(city, path[:-1])["k"] if path[-1] in ("k", "v") else None
            name: Path = tuple("*" if isinstance(step, int) else step for step in path)
            shapes.setdefault((*name, "") if kind is None else (kind, path[0], path[-1]), path)
    assert len(shapes) > 60
    made = 0
    for path in shapes.values():
        for payload in PAYLOADS:
            hostile = changed(city, path, payload)
            again = attempt(db, hostile)
            if again is not None:
                made += 1
                # as a name or a literal it is exactly that; keys to tables that are not here are not made
                assert path[:3:2] == ("foreign_keys", "references") or payload in [
                    value for _, value in leaves(again)
                ], path
    assert made > 30


def spell(*words: str | dict[str, Any]) -> list[dict[str, Any]]:
    """A token list: `kind:value`, punctuation as it is, and types as objects."""
    result = []
    for word in words:
        kind, colon, value = word.partition(":") if isinstance(word, str) else ("type", ":", word)
        result.append(token(kind, value) if kind and colon else token("punctuation", word))
    return result


def type_named(schema: str, name: str, *, array: bool = False) -> dict[str, Any]:
    return {"schema": schema, "name": name, "modifier": -1, "array": array}


FORBIDDEN = [
    spell("function:attack", "(", ")"),
    spell("function:pg_sleep", "(", "number:1", ")"),
    spell("function:nextval", "(", "string:s", ")"),
    spell("function:current_setting", "(", "string:data_directory", ")"),
    spell("function:public.attack", "(", ")"),
    spell("function:lower"),
    spell("column:attack", "(", ")"),
    spell("column:name", "(", ")"),
    spell("name:attack", "(", ")"),
    spell("string:a", "(", ")"),
    spell("number:1", ")", ",", "(", "number:1"),
    spell("(", "number:1", "]"),
    spell("(", "number:1"),
    spell("number:1", ",", "number:2"),
    spell("number:1", ";", "number:2"),
    spell("number:1); SELECT attack(); --"),
    spell("number:1e400000"),
    spell("bits:1'); SELECT attack(); --"),
    spell("keyword:SELECT", "number:1"),
    spell("keyword:select", "number:1"),
    spell("keyword:TRUE); SELECT attack(); --"),
    spell("keyword:OPERATOR"),
    spell("keyword:VALUE"),
    spell("keyword:CURRENT_USER", "(", ")"),
    spell("number:1", "operator:--", "number:1"),
    spell("number:1", "operator:/*", "number:1"),
    spell("number:1", "operator:=); SELECT attack(); --", "number:1"),
    spell("number:1", "operator:public.=", "number:1"),
    spell("number:1", "operator:="),
    spell("column:id", "string:a"),
    spell("string:a", "string:b"),
    spell("column:nowhere"),
    spell("column:ctid"),
    spell(".", "column:id"),
    spell("::", "number:1"),
    spell("number:1", "::", "string:int"),
    spell(type_named("pg_catalog", "int4"), "string:1"),
    spell("string:a", "keyword:COLLATE", "string:C"),
    [*spell("string:a"), token("collation", {"schema": "pg_catalog", "name": "C"})],
    spell("keyword:EXTRACT", "(", "name:attack", "keyword:FROM", "column:founded", ")"),
    spell("sql:1"),
    *(
        spell("string:1", "::", type_named(schema, name, array=array))
        for schema, name, array in [
            ("pg_catalog", "regclass", False),
            ("pg_catalog", "regproc", False),
            ("pg_catalog", "regrole", True),
            ("pg_catalog", "oid", False),
            ("pg_catalog", "record", False),
            ("pg_catalog", "cstring", False),
            ("public", "pair", False),
            ("public", "pair", True),
        ]
    ),
    spell("string:a", "::", {"extension": "citext", "name": "citext", "modifier": -1, "array": False}),
]


@pytest.mark.parametrize(
    "tokens", FORBIDDEN, ids=lambda tokens: " ".join(str(item["v"]) for item in tokens)[:50]
)
def test_an_expression_that_holds_anything_else_is_refused_everywhere(
    db: psycopg.Connection, city: dict[str, Any], tokens: list[dict[str, Any]]
) -> None:
    before = inventory(db)
    index = next(number for number, item in enumerate(city["indexes"]) if item["name"] == "city_lower")
    places: list[Path] = [
        ("columns", 0, "default"),
        ("columns", 8, "generated"),
        ("checks", 0, "expression"),
        ("indexes", index, "predicate"),
        ("indexes", index, "columns", 0, "expression"),
    ]
    for path in places:
        error = refused(db, changed(city, path, tokens), "PGS03")
        assert str(path[0]) in (error.diag.message_detail or "")
    assert inventory(db) == before


def test_an_expression_of_a_domain_is_checked_like_any_other(
    db: psycopg.Connection, city: dict[str, Any]
) -> None:
    (number,) = [n for n, item in enumerate(city["types"]) if item["kind"] == "domain"]
    for tokens in [FORBIDDEN[0], FORBIDDEN[1], FORBIDDEN[10], [token("column", "id")]]:
        refused(db, changed(city, ("types", number, "default"), tokens), "PGS03")
        refused(db, changed(city, ("types", number, "checks", 0, "expression"), tokens), "PGS03")


@pytest.mark.parametrize(
    "schema", ["pg_catalog", "pg_temp", "pg_toast", "information_schema", "peer", "peer_internal"]
)
def test_reserved_schemas_can_be_neither_filled_nor_referenced(
    db: psycopg.Connection, city: dict[str, Any], schema: str
) -> None:
    refused(db, {**city, "schema": schema}, "PGS02")
    refused(db, changed(city, ("foreign_keys", 0, "references", "schema"), schema), "PGS02")
    if schema != "pg_catalog":
        refused(db, changed(city, ("columns", 0, "type", "schema"), schema), "PGS02")
    (number,) = [n for n, item in enumerate(city["types"]) if item["kind"] == "enum"]
    refused(db, changed(city, ("types", number, "schema"), schema), "PGS02")


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("version",), 2, "PGS01"),
        (("version",), "1", "PGS01"),
        (("sql",), "SELECT 1", "PGS01"),
        (("columns",), [], "PGS01"),
        (("columns",), {}, "PGS01"),
        (("columns", 0), 1, "PGS01"),
        (("columns", 0, "name"), None, "PGS01"),
        (("columns", 0, "name"), "", "PGS02"),
        (("columns", 0, "name"), "ü" * 32, "PGS02"),
        (("columns", 0, "not_null"), "yes", "PGS01"),
        (("columns", 0, "type"), "int4", "PGS01"),
        (("columns", 0, "type", "modifier"), 1.5, "PGS01"),
        (("columns", 0, "type", "modifier"), 2**40, "PGS01"),
        (("columns", 0, "type", "modifier"), 7, "PGS01"),
        (("columns", 0, "type", "name"), "regclass", "PGS04"),
        (("columns", 0, "type", "name"), "pg_class", "PGS04"),
        (("columns", 0, "type", "name"), "nothing", "PGS04"),
        (("columns", 0, "type", "extension"), "citext", "PGS01"),
        (("columns", 0, "default"), "0", "PGS01"),
        (("columns", 0, "default"), [], "PGS01"),
        (("columns", 0, "default"), {"serial": True, "sql": 1}, "PGS01"),
        (("columns", 2, "default"), {"serial": True}, "PGS01"),
        (("columns", 2, "collation", "name"), "nowhere", "PGS04"),
        (("columns", 6, "name"), "id", "PGS01"),
        (("columns", 0, "identity"), "sometimes", "PGS01"),
        (("primary_key", "columns"), [], "PGS01"),
        (("primary_key", "columns"), ["id", "id"], "PGS01"),
        (("primary_key", "columns"), ["nowhere"], "PGS01"),
        (("primary_key", "columns"), [["id"]], "PGS01"),
        (("foreign_keys", 0, "on_delete"), "cascade; DROP TABLE witness", "PGS01"),
        (("foreign_keys", 0, "references", "columns"), ["code", "code"], "PGS01"),
        (("indexes", 0, "method"), "bloom", "PGS01"),
        (("indexes", 0, "columns"), [], "PGS01"),
        (("indexes", 0, "columns", 0, "operator_class"), "citext_ops", "PGS04"),
        (("types", 0, "kind"), "function", "PGS01"),
        (("types",), None, "PGS01"),
        (("omitted",), ["x"], "PGS01"),
    ],
)
def test_a_malformed_description_is_refused_with_the_place(
    db: psycopg.Connection, city: dict[str, Any], path: Path, value: object, code: str
) -> None:
    before = inventory(db)
    refused(db, changed(city, path, value), code)
    assert inventory(db) == before


@pytest.mark.parametrize("document", [None, 1, "x", [], {}, [[{}]], {"version": 1}])
def test_what_is_no_description_at_all_is_refused(db: psycopg.Connection, document: object) -> None:
    refused(db, document, "PGS01")


def test_a_description_larger_than_the_limit_is_refused(db: psycopg.Connection, city: dict[str, Any]) -> None:
    assert "4 MiB" in str(refused(db, {**city, "omitted": [{"reason": "x" * 1000}] * 5000}, "PGS01"))
    many = [{**city["columns"][0], "name": f"c{number}"} for number in range(1601)]
    assert "1600" in str(refused(db, {**city, "columns": many}, "PGS01"))
    long = [token("number", "1"), *([token("operator", "+"), token("number", "1")] * 2048)]
    assert "4096" in str(refused(db, changed(city, ("checks", 0, "expression"), long), "PGS01"))


def test_comparing_with_a_malformed_description_is_refused_too(
    db: psycopg.Connection, city: dict[str, Any]
) -> None:
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        difference(db, "shop.country", changed(city, ("checks", 0, "expression"), FORBIDDEN[0]))
    assert caught.value.sqlstate == "PGS03"


_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2000)
    | st.sampled_from(PAYLOADS)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_tokens = st.sampled_from([item for tokens in FORBIDDEN for item in tokens])
_values: st.SearchStrategy[object] = (
    _scalars | st.lists(_tokens, max_size=6) | _tokens | st.lists(_scalars, max_size=3) | st.just({})
)


def test_no_random_change_of_a_description_does_harm(db: psycopg.Connection, city: dict[str, Any]) -> None:
    paths = list(nodes(city))

    @settings(max_examples=120)
    @given(st.lists(st.tuples(st.sampled_from(paths), _values), min_size=1, max_size=3), st.booleans())
    def harmless(changes: list[tuple[Path, object]], shuffle: bool) -> None:
        document = city
        for path, value in changes:
            try:
                document = changed(document, path, value)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change removed the place
        if shuffle:
            document = {name: document[name] for name in sorted(document)}
        attempt(db, document)

    harmless()


def test_no_order_of_allowed_tokens_does_harm(db: psycopg.Connection, city: dict[str, Any]) -> None:
    paths: list[Path] = [
        ("columns", 7, "default"),
        ("columns", 8, "generated"),
        ("checks", 0, "expression"),
        ("checks", 1, "expression"),
    ]
    allowed = [item for path in paths for item in _at(city, path)]
    allowed += [token("punctuation", word) for word in ("(", ")", "[", "]", ",", "::")] + [
        token("keyword", "NOT"),
        token("keyword", "NULL"),
    ]

    @settings(max_examples=150)
    @given(st.lists(st.sampled_from(allowed), min_size=1, max_size=8))
    @example([token("keyword", "NULL")])
    def harmless(tokens: list[dict[str, Any]]) -> None:
        made.append(attempt(db, changed(city, ("columns", 2, "default"), tokens)) is not None)

    made: list[bool] = []
    harmless()
    assert any(made)
    assert not all(made)


def _at(document: object, path: Path) -> Any:
    at: Any = document
    for step in path:
        at = at[step]
    return at
