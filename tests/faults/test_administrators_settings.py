"""Settings that an administrator makes for the role or the database, meant for other programs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from psycopg import sql
from system.processes import Peer, wait_until_equal

Make = Callable[..., Peer]

SETTINGS = {
    "statement_timeout": "20ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "20ms",
    "idle_session_timeout": "300ms",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "transaction_timeout": "50ms",
    "search_path": "nowhere",
    "row_security": "off",
    "bytea_output": "escape",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Chatham",
    "extra_float_digits": "-10",
    "client_min_messages": "error",
    "standard_conforming_strings": "off",
    "plan_cache_mode": "force_generic_plan",
}


@pytest.mark.parametrize("whose", ["DATABASE", "ROLE"])
def test_a_worker_is_not_disturbed_by_settings_of_its_role_or_database(
    atlas: Make, make_peer: Make, whose: str
) -> None:
    ann, bob = atlas(), make_peer("bob")
    server = bob.database.cluster.version
    name = bob.database.name if whose == "DATABASE" else "postgres"
    scope = (
        sql.SQL("")
        if whose == "DATABASE"
        else sql.SQL("IN DATABASE {}").format(sql.Identifier(bob.database.name))
    )
    admin = bob.database.connect()
    for setting, value in SETTINGS.items():
        if setting != "transaction_timeout" or server >= 17:
            admin.execute(
                sql.SQL("ALTER {} {} {} SET {} = {}").format(
                    sql.SQL(whose), sql.Identifier(name), scope, sql.Identifier(setting), sql.Literal(value)
                )
            )
    bob.start()
    admin.execute("SELECT peer.join(%s)", [ann.value("SELECT peer.invite('atlas')")])
    deadline = time.monotonic() + 30
    joined = "SELECT EXISTS (SELECT FROM peer.event WHERE kind = 'joined')"
    while admin.execute(joined).fetchone() != (True,):
        assert time.monotonic() < deadline, bob.log.read_text()
        time.sleep(0.05)
    ann.run("UPDATE public.city SET name = 'from ann' WHERE id <= 250")
    admin.execute("UPDATE public.city SET name = 'from bob' WHERE id > 250")
    ann.wait_until("SELECT count(*) = 250 FROM public.city WHERE name = 'from bob'")
    time.sleep(1)  # longer than an idle session would live
    ann.run("UPDATE public.city SET population = 0 WHERE id = 1")
    admin.execute(sql.SQL("ALTER {} {} {} RESET ALL").format(sql.SQL(whose), sql.Identifier(name), scope))
    wait_until_equal(ann, bob)
    assert bob.value("SELECT count(*) FROM peer.problem") == 0
    assert '"event": "not serving"' not in bob.log.read_text()
