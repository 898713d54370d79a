"""`durable export` and `durable backup`: of journals that are at rest, and of one that is being written."""

import contextlib
import json
import re
import resource
import signal
import sqlite3
import subprocess
import sys

import pytest


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_export_has_what_show_has_oldest_first(shop):
    found = lines(shop.durable("export").stdout)
    assert [each["id"] for each in found if each["kind"] == "run"] == list(reversed(shop.ids()))
    for id in shop.ids():
        shown = shop.objects("show", id)
        start = found.index(shown[0])
        assert found[start : start + len(shown)] == shown


def test_export_of_some(shop):
    done = shop.durable("export", "--status", "failed", "blocked", "--json")
    assert {each["id"] for each in lines(done.stdout) if each["kind"] == "run"} == {"order-3", "moody"}
    assert shop.durable("export", "--workflow", "no such").stdout == ""


def test_export_to_a_file(shop, tmp_path):
    file = tmp_path / "runs.jsonl"
    done = shop.durable("export", "--output", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"7 runs written to .*/runs.jsonl, [\d.]+ kB\n", done.stdout)
    assert file.read_text() == shop.durable("export").stdout
    assert file.stat().st_mode & 0o777 == 0o600
    again = shop.durable("export", "--output", str(file))
    assert again.returncode == 1
    assert "is there already: name another file" in again.stderr
    assert shop.durable("export", "--output", str(tmp_path / "no" / "such")).returncode == 1
    done = shop.durable("export", "--output", str(tmp_path / "none"), "--workflow", "no such", "--json")
    assert lines(done.stdout) == [{"kind": "export", "path": str(tmp_path / "none"), "runs": 0, "bytes": 0}]


def test_a_minus_is_standard_output(shop):
    assert shop.durable("export", "--output", "-").stdout == shop.durable("export").stdout
    assert not (shop.path / "-").exists()


SYNCED = """
import os, stat, sys
from durable.cli import main

fsync, synced = os.fsync, []

def fsync_seen(fd):
    fsync(fd)
    synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), os.path.exists("made")))

os.fsync = fsync_seen
assert main(COMMAND) == 0
assert synced == [(False, False), (True, True)], synced
"""


@pytest.mark.parametrize("command", [["backup", "made"], ["export", "--output", "made"]])
def test_what_is_made_and_then_its_name_are_on_the_disk(folder, command):
    folder.run("buy({'id': 1, 'item': 'x'})")
    folder.run(f"COMMAND = {command}\n{SYNCED}", "")


DELETED_MEANWHILE = """
import subprocess, sys
from durable.cli import main
from durable.cli._reader import Reader

sound_attempts = Reader.sound_attempts

def sound_attempts_later(reader, seq, damaged):
    subprocess.run([sys.executable, "-m", "durable", "rm", "order-1"], stdout=subprocess.DEVNULL)
    return sound_attempts(reader, seq, damaged)

Reader.sound_attempts = sound_attempts_later
sys.exit(main(COMMAND))
"""


def test_a_run_that_is_deleted_while_it_is_read_is_not_told_of_in_part(folder):
    for command, code in ((["export"], 0), (["show", "order-1"], 3)):
        folder.run("buy({'id': 1, 'item': 'x'})")
        assert folder.run(f"COMMAND = {command}\n{DELETED_MEANWHILE}", "", expect=code) == ""


def test_export_goes_on_past_damage(folder):
    folder.run("buy({'id': 1, 'item': 'x'}); buy({'id': 2, 'item': 'x'}); buy({'id': 3, 'item': 'x'})")
    with contextlib.closing(sqlite3.connect(folder.path / "durable.db")) as db, db:
        db.execute("UPDATE durable_run SET output = '1' WHERE seq = 2")
        db.execute("UPDATE durable_step SET output = '1' WHERE run = 3 AND position = 1")
    done = folder.durable("export")
    assert done.returncode == 1
    runs = [each for each in lines(done.stdout) if each["kind"] == "run"]
    assert [run["status"] for run in runs] == ["completed", "damaged", "completed"]
    assert len(runs[2]["damaged"]) == 1
    assert done.stderr == "durable: damage in 2 of 3 runs: durable doctor tells more\n"
    done = folder.durable("export", "--output", "runs.jsonl")
    assert done.returncode == 1
    assert done.stdout.startswith("3 runs written to runs.jsonl, ")
    assert done.stderr == "durable: damage in 2 of 3 runs: durable doctor tells more\n"


def test_progress_of_an_export_stands_on_the_terminal_and_not_in_the_file(shop, tmp_path):
    code = """
import sys, time
from durable import _progress
_progress._FIRST_SECONDS = _progress._EACH_SECONDS = 0
from durable.cli import main
sys.exit(main(["export", "--output", sys.argv[1]]))
"""
    (tmp_path / "slow.py").write_text(code)
    text = shop.on_a_terminal(str(tmp_path / "out"), program=[str(tmp_path / "slow.py")], NO_COLOR="1")
    assert "exporting  ━━" in text
    assert "7 of 7 runs" in text
    assert text.rpartition("\r\x1b[K")[2].startswith("7 runs written to ")
    assert "━" not in (tmp_path / "out").read_text()


# -- backup -----------------------------------------------------------------------------------------------------------


def test_a_backup_is_the_journal(shop, folder):
    before = shop.content()
    done = shop.durable("backup", str(folder.path / "durable.db"))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"durable.db copied to .*/durable.db, [\d.]+ kB\n", done.stdout)
    assert shop.content().items() >= before.items()
    assert (folder.path / "durable.db").stat().st_mode & 0o777 == 0o600
    assert [row[:7] for row in folder.rows()] == [row[:7] for row in shop.rows()]
    [found] = lines(shop.durable("backup", str(folder.path / "other.db"), "--json").stdout)
    assert found == {"kind": "backup", "path": f"{folder.path}/other.db", "bytes": found["bytes"]}


def test_what_was_made_is_told_in_as_many_lines_as_it_takes(shop, tmp_path):
    for number, command in enumerate((["backup"], ["export", "--output"])):
        text = shop.on_a_terminal(*command, str(tmp_path / f"{number}"), width=30, NO_COLOR="1")
        assert max(map(len, text.splitlines())) <= 30
        assert f"{tmp_path}/{number}" in text.replace("\n", "")
        assert text.endswith("kB\n")


def test_a_backup_leaves_no_trace_beside_a_journal_at_rest(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    before = folder.content()
    (folder.path / "there").mkdir()
    assert folder.durable("backup", "there/copy.db").returncode == 0
    (folder.path / "there" / "copy.db").unlink()
    (folder.path / "there").rmdir()
    assert folder.content() == before


BUSY = """
durable.resume()
for number in range(1_000_000):
    buy({"id": number, "item": "x" * 500})
    print(number, flush=True)
"""


def test_backups_of_a_journal_that_is_written(folder):
    """Each is the journal at one moment: what was acknowledged before is in it, and what is in it is whole."""
    process = folder.start(BUSY)
    try:
        for number in range(5):
            acknowledged = int(process.stdout.readline())
            done = folder.durable("backup", f"copy-{number}.db")
            assert done.returncode == 0, done.stderr
            for _ in range(30):
                process.stdout.readline()
            with contextlib.closing(sqlite3.connect(folder.path / f"copy-{number}.db")) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                [[most, count]] = db.execute("SELECT max(seq), count(*) FROM durable_run")
            assert most == count > acknowledged
            checked = folder.durable("--db", f"copy-{number}.db", "doctor", "--json")
            assert checked.returncode == 0, checked.stdout
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_a_backup_goes_on_where_the_journal_was(shop, folder):
    assert shop.durable("backup", str(folder.path / "durable.db")).returncode == 0
    folder.run(
        """
        for run in durable.resume(): pass
        while durable.get("order-5").steps()[-1].attempt < 2: time.sleep(0.01)
        os._exit(0)
        """
    )
    assert folder.objects("show", "order-5")[0]["status"] == "interrupted"
    assert [step["attempt"] for step in folder.objects("show", "order-5")[1:]] == [1, 1, 2]


def test_nothing_is_written_over(shop, tmp_path):
    (tmp_path / "there").write_text("precious")
    done = shop.durable("backup", str(tmp_path / "there"))
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert (tmp_path / "there").read_text() == "precious"
    assert f"{tmp_path} is a folder: name a file in it" in shop.durable("backup", str(tmp_path)).stderr
    (tmp_path / "new.part").write_text("")
    assert "another process writes it" in shop.durable("backup", str(tmp_path / "new")).stderr
    assert shop.durable("backup").returncode == 2
    assert shop.durable("--db", "nowhere.db", "backup", str(tmp_path / "x")).returncode == 1
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.part").exists()


def test_a_disk_that_is_full(shop, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "durable", "backup", str(tmp_path / "copy.db")],
        cwd=shop.path, env=shop.environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "durable.db: disk I/O error (File too large); raise the limit on the size of files" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_cannot_grow_says_why(folder, tmp_path_factory):
    folder.run("attempt(lambda: buy({'id': 1, 'item': 'x' * 50_000}))")
    target = tmp_path_factory.mktemp("copies")
    done = subprocess.run(
        [sys.executable, "-m", "durable", "backup", str(target / "copy.db")],
        cwd=folder.path, env=folder.environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "copy.db: disk I/O error (File too large); raise the limit on the size of files (ulimit -f)" in done.stderr
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("command", ["backup", "export"])
def test_control_c_leaves_nothing(shop, tmp_path, command):
    code = f"""
import os, signal, sys
from durable import _progress
_progress.Progress.reach = lambda self, done: os.kill(os.getpid(), signal.SIGINT)
from durable.cli import main
sys.exit(main({["backup", "copy"] if command == "backup" else ["export", "--output", "copy"]!r}))
""".replace("'copy'", repr(str(tmp_path / "copy")))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shop.path, env=shop.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert list(tmp_path.iterdir()) == []
