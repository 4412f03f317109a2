"""What PostgreSQL refuses is told as one sentence: what happened and its detail, each once, and the hint as remedy."""

from __future__ import annotations

import pytest
from fixtures.databases import Database

from pgpeer.errors import PgpeerError, StoreError
from pgpeer.store.database import Connection
from pgpeer.worker.intake import Intake

WITH_BOTH = "DO $$ BEGIN RAISE 'it was refused' USING ERRCODE = 'PGM01', DETAIL = 'Why it was.', HINT = 'Do this.'; END $$"


@pytest.mark.parametrize(
    ("statement", "sentence", "remedy"),
    [
        pytest.param(WITH_BOTH, "it was refused (Why it was.)", "Do this.", id="detail and hint"),
        pytest.param(
            WITH_BOTH.replace("DETAIL = 'Why it was.', ", ""), "it was refused", "Do this.", id="hint alone"
        ),
        pytest.param("SELECT 1 / 0", "division by zero", "", id="neither"),
        pytest.param(
            "SELECT nothing_of_this_name()",
            "function nothing_of_this_name() does not exist",
            None,
            id="of the server",
        ),
    ],
)
async def test_a_refusal_tells_each_part_once(
    database: Database, statement: str, sentence: str, remedy: str | None
) -> None:
    connection = await Connection.open(database.dsn)
    try:
        with pytest.raises(StoreError) as caught:
            await connection.fetch(statement)
    finally:
        await connection.close()
    told = str(caught.value)
    assert "\n" not in told
    assert "HINT" not in told
    if remedy is None:
        # 18 and newer tell some of it as detail
        assert told.startswith(sentence)
        assert caught.value.remedy
        assert caught.value.remedy not in told
    else:
        assert (told, caught.value.remedy) == (sentence, remedy)


async def test_a_database_that_does_not_exist_is_told_in_one_sentence(database: Database) -> None:
    with pytest.raises(StoreError) as caught:
        await Connection.open(database.cluster.dsn("nowhere"))
    assert str(caught.value) == 'The database cannot be reached: database "nowhere" does not exist'


async def test_what_a_peer_sent_is_blamed_on_it_in_one_sentence(database: Database) -> None:
    connection = await Connection.open(database.dsn)
    try:
        with pytest.raises(PgpeerError) as caught:
            await Intake._blame(connection.fetch(WITH_BOTH))
    finally:
        await connection.close()
    assert str(caught.value) == "What the peer sent was refused: it was refused (Why it was.)."
    assert (caught.value.remedy, caught.value.code) == ("Do this.", "bad_message")
