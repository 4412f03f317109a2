"""When a database must go on in a new epoch: every way in which ledger, database and place can differ."""

from __future__ import annotations

from uuid import UUID

import pytest

from pgpeer.store.state import Standing
from pgpeer.worker.renewal import due_renewal

BUNDLE, OTHER = UUID(int=1), UUID(int=2)
EPOCH = 7


class Recorded:
    """A ledger that holds the last numbers of some bundles in the epoch."""

    def __init__(self, last: dict[UUID, int]) -> None:
        self._last = last

    def last(self, bundle_id: UUID, epoch: int) -> tuple[int, bytes] | None:
        if epoch != EPOCH or bundle_id not in self._last:
            return None
        return self._last[bundle_id], bytes(32)


@pytest.mark.parametrize(
    ("recorded", "known", "signed", "is_elsewhere", "code"),
    [
        pytest.param({}, {}, {}, False, None, id="a new database without a bundle"),
        pytest.param({}, {BUNDLE: 0}, {BUNDLE: 0}, False, None, id="nothing committed"),
        pytest.param(
            {}, {BUNDLE: 3}, {BUNDLE: 0}, False, None, id="people committed before the first worker"
        ),
        pytest.param({BUNDLE: 5}, {BUNDLE: 5}, {BUNDLE: 5}, False, None, id="as it was left"),
        pytest.param(
            {BUNDLE: 5}, {BUNDLE: 9}, {BUNDLE: 5}, False, None, id="people committed without a worker"
        ),
        pytest.param({BUNDLE: 6}, {BUNDLE: 6}, {BUNDLE: 5}, False, None, id="killed before it was stored"),
        pytest.param({BUNDLE: 6}, {BUNDLE: 5}, {BUNDLE: 5}, False, "ledger_fork", id="database restored"),
        pytest.param({BUNDLE: 6}, {BUNDLE: 0}, {BUNDLE: 0}, False, "ledger_fork", id="restored to the begin"),
        pytest.param({}, {BUNDLE: 5}, {BUNDLE: 5}, False, "ledger_missing", id="ledger lost"),
        pytest.param({}, {BUNDLE: 9}, {BUNDLE: 5}, False, "ledger_missing", id="ledger lost, more committed"),
        pytest.param({BUNDLE: 4}, {BUNDLE: 5}, {BUNDLE: 5}, False, "ledger_missing", id="an older ledger"),
        pytest.param({}, {BUNDLE: 2}, {BUNDLE: 5}, False, "ledger_missing", id="lost both, some came back"),
        pytest.param(
            {BUNDLE: 5},
            {BUNDLE: 5, OTHER: 1},
            {BUNDLE: 5, OTHER: 1},
            False,
            "ledger_missing",
            id="one bundle",
        ),
        pytest.param({}, {BUNDLE: 0}, {BUNDLE: 0}, True, "moved", id="served from elsewhere"),
        pytest.param({}, {BUNDLE: 5}, {BUNDLE: 5}, True, "moved", id="elsewhere without the ledger"),
        pytest.param({BUNDLE: 6}, {BUNDLE: 5}, {BUNDLE: 5}, True, "ledger_fork", id="elsewhere and restored"),
    ],
)
def test_a_new_epoch_begins_exactly_when_a_number_may_be_in_use(
    recorded: dict[UUID, int],
    known: dict[UUID, int],
    signed: dict[UUID, int],
    is_elsewhere: bool,
    code: str | None,
) -> None:
    standing = Standing(bytes(32), EPOCH, False, known, signed)
    renewal = due_renewal(Recorded(recorded), standing, is_elsewhere=is_elsewhere)
    assert (None if renewal is None else renewal.code) == code
    if renewal is not None:
        assert renewal.detail.endswith(".")
        assert renewal.hint
