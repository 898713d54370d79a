"""The recorder of other libraries' writes and syncs, tried on durable: what it misses would count as lost."""

import shutil

import pytest

from tests.faults.against import DURABLE, look_at_images, recorded
from tests.faults.disk import Op
from tests.faults.peers import recorder
from tests.faults.tally import Tally

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the recorder is written in C")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    base = tmp_path_factory.mktemp("recorded")
    return recorded(DURABLE, recorder.compiled(base), "sync", base / "folder")


def faults_of(log, base):
    tally = Tally()
    look_at_images(DURABLE, log, "1/0", 60, tally, base)
    assert tally.facts["with unsynced writes"]
    return set(tally.faults)


def test_it_records_every_write_and_sync(log, tmp_path):
    assert [entry[1] for entry in log if not isinstance(entry, Op) and entry[0] == "got"] == list("01234567")
    assert faults_of(log, tmp_path) == set()


def test_a_sync_that_is_not_made_is_told(log, tmp_path):
    without = [
        entry for entry in log if not isinstance(entry, Op) or (entry.kind, entry.name) != ("sync", "journal.db-wal")
    ]
    assert "acknowledged outcomes lost" in faults_of(without, tmp_path)
