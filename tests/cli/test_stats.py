"""`durable stats`: what it counts is what plain SQL counts, and a sample says that it is one."""

import contextlib
import re
import sqlite3
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks import million


def by(objects, kind):
    return [each for each in objects if each["kind"] == kind]


def test_counts_of_a_killed_owner(shop):
    stats = shop.objects("stats")
    assert {(each["workflow"], each["status"]): each["count"] for each in by(stats, "runs")} == {
        ("buy", "completed"): 2,
        ("buy", "failed"): 1,
        ("buy", "interrupted"): 2,
        ("pages", "interrupted"): 1,
        ("moody", "blocked"): 1,
    }
    times = {each["step"]: each for each in by(stats, "times")}
    assert times["fulfill"]["count"] == 5
    assert times["fulfill"]["retries"] == 4
    assert times["fulfill"]["failed"] == 1
    assert times["hang"]["count"] == 0
    assert times["hang"]["p50_seconds"] is None
    assert times["now"]["step_kind"] == "now"
    assert not any(each["sampled"] for each in times.values())
    failures = {(each["step"], each["error"]["type"]): each for each in by(stats, "failed_attempts")}
    assert failures["fulfill", "Closed"]["count"] == 5
    assert failures["fulfill", "Closed"]["given_up"] == 1
    assert failures["call_back", "TimeoutError"]["count"] == 1
    [failed] = by(stats, "failed_runs")
    assert (failed["workflow"], failed["error"]["type"], failed["count"]) == ("buy", "Closed", 1)


def test_what_a_fork_took_over_counts_once(folder):
    folder.run("buy({'id': 1, 'item': 'tea'}); print(durable.get('order-1').fork(from_step=2).result())")
    assert [len(folder.objects("show", run["id"])) for run in folder.objects("ls")] == [3, 3]
    times = {each["step"]: each["count"] for each in by(folder.objects("stats"), "times")}
    assert times == {"init": 1, "fulfill": 2}


def test_running_and_interrupted_are_told_apart(live):
    counts = {(each["workflow"], each["status"]): each["count"] for each in by(live.objects("stats"), "runs")}
    assert counts["buy", "running"] == 2
    assert counts["pages", "running"] == 1


def test_ages(shop):
    assert by(shop.objects("stats", "--before", "1h"), "runs") == []
    assert shop.objects("stats", "--since", "1h") == shop.objects("stats")
    assert shop.durable("stats", "--since", "x").returncode == 2


def test_on_a_terminal(shop):
    lines = shop.on_a_terminal("stats", NO_COLOR="1", width=120).splitlines()
    assert lines[0].split() == ["WORKFLOW", "RUNS", "BLOCKED", "FAILED", "COMPLETED", "INTERRUPTED"]
    assert [line.split() for line in lines[1:5]] == [
        ["buy", "5", "1", "2", "2"], ["moody", "1", "1"], ["pages", "1", "1"], ["all", "7", "1", "1", "2", "3"],
    ]  # fmt: skip
    assert any(line.startswith("Closed: the warehouse is closed  fulfill") for line in lines)
    for width in (20, 40, 60, 100):
        assert max(map(len, shop.on_a_terminal("stats", width=width, NO_COLOR="1").splitlines())) <= width


def test_in_a_pipe(shop):
    rows = [line.split("\t") for line in shop.durable("stats").stdout.splitlines()]
    assert {row[0] for row in rows} == {"runs", "times", "failed attempts", "failed runs"}
    assert ["runs", "buy", "completed", "2"] in rows


def test_an_empty_journal(folder):
    folder.run("durable.runs(); buy.start({'id': 1, 'item': 'x'}).result()")
    assert folder.durable("stats", "--before", "1w").stdout == ""


# -- many -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, shop):
    """8,000 runs of 10 steps: more than are looked at one by one."""
    folder = type(shop)(tmp_path_factory.mktemp("crowd"))
    million.make(folder.path / "durable.db", 8_000)
    return folder


def test_counts_are_exact_however_many_there_are(crowd):
    with contextlib.closing(sqlite3.connect(crowd.path / "durable.db")) as db:
        query = "SELECT workflow, replace(status, 'running', 'interrupted'), count(*) FROM durable_run GROUP BY 1, 2"
        expected = set(db.execute(query))
    found = {(each["workflow"], each["status"], each["count"]) for each in by(crowd.objects("stats"), "runs")}
    assert found == expected


def test_a_sample_is_close_and_says_so(crowd):
    with contextlib.closing(sqlite3.connect(crowd.path / "durable.db")) as db:
        query = "SELECT finished_at - started_at FROM durable_step WHERE name = 'pack' AND finished_at > 0 ORDER BY 1"
        seconds = [row[0] for row in db.execute(query)]
    pack = next(each for each in crowd.objects("stats") if each.get("step") == "pack" and each["kind"] == "times")
    assert pack["sampled"]
    assert 2_500 < pack["count"] <= 3_000
    for key, least, most in (("p50_seconds", 0.45, 0.55), ("p95_seconds", 0.93, 0.97), ("p99_seconds", 0.98, 0.997)):
        assert seconds[int(len(seconds) * least)] <= pack[key] <= seconds[int(len(seconds) * most)]
    text = crowd.on_a_terminal("stats", NO_COLOR="1")
    assert re.search(r"from 2\d,\d\d\d steps of 2,\d\d\d runs, drawn at random", text)


def test_damage_is_told_and_costs_no_more_than_itself(crowd, folder):
    path = folder.path / "durable.db"
    million.make(path, 200)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE durable_step SET finished_at = finished_at + 900 WHERE run = 5 AND position = 3")
    done = folder.durable("stats")
    assert done.returncode == 1
    assert "damaged\t" in done.stdout
    assert "times\tship\t199\t" in done.stdout
