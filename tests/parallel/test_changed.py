"""Random programs that are changed under an interrupted run. Many more: `python -m tests.parallel.changed --trials 1000`."""

import pytest

from tests.parallel import changed, trials


@pytest.mark.parametrize("seed", range(2))
def test_changed_programs_are_blocked_or_end_and_complete_when_they_are_put_back(seed, monkeypatch, capsys):
    monkeypatch.setattr(trials, "STUCK_SECONDS", changed.STUCK_SECONDS)
    seen = changed.many(seed, range(6))
    assert not any(seen[fault] for fault in changed.FAULTS), capsys.readouterr().out
    assert seen["blocked"]
    assert seen["put back"]
