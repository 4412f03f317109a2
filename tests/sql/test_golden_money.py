"""Signs of money and of decimals are those of a locale, and not of a section: the golden bytes again, in a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures.databases import server_root
from fixtures.versions import EMBEDDED, SECOND, bindir_of

from pgpeer.embedded import Cluster
from pgpeer.store.install import install

from .test_golden_sections import GOLDEN, prepare, sections

LOCALE = "de_DE.UTF-8"


@pytest.fixture
def german_server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A server that finds the locale, which the machine need not have installed."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("the German locale cannot be made here (apt-get install locales)")
    root, _ = server_root()
    places = root / f"pgpeer-locale-{os.getpid()}"
    places.mkdir()
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", places / LOCALE], check=True)
    places.chmod(0o755)
    monkeypatch.setenv("LOCPATH", str(places))
    folder = root / f"pgpeer-money-{os.getpid()}"
    try:
        with Cluster(folder, persistent=False, bindir=bindir_of(request.param)) as cluster:
            yield cluster
    finally:
        shutil.rmtree(places)


@pytest.mark.parametrize("german_server", [EMBEDDED, SECOND], indirect=True)
def test_sums_of_money_have_the_same_bytes_where_they_are_shown_otherwise(german_server: Cluster) -> None:
    with psycopg.connect(german_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE golden TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
    dsn = german_server.dsn("golden")
    install(dsn)
    settings = {"lc_monetary": LOCALE, "lc_numeric": LOCALE}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
        shown = connection.execute("SELECT 1234.5::numeric::money::text").fetchone()
        assert shown == ("1.234,50 €",), "the locale is in use"
    prepare(dsn)
    assert sections(dsn, settings) == json.loads(GOLDEN.read_text(encoding="utf-8"))
