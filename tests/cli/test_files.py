"""The file is only read, whoever has it open; what cannot be read is said, with the right exit code."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cli.conftest import Folder

COMMANDS = [["ls"], ["ls", "--json"], ["show", "order-1"], ["show", "order-1", "--json"], ["show", "nothing"]]


def execute(folder, sql):
    """Change the file behind the back of the library, and of its checksums."""
    with contextlib.closing(sqlite3.connect(folder.path / "durable.db")) as db, db:
        db.execute(sql)


# -- without a trace --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_journal_is_left_as_it_is(folder, command):
    folder.run("buy({'id': 1, 'item': 'x'})")
    before = folder.content()
    assert not any(name.endswith(("-wal", "-shm")) for name in before)
    changed_at = folder.path.stat().st_mtime_ns
    folder.durable(*command)
    assert folder.content() == before
    assert folder.path.stat().st_mtime_ns == changed_at


@pytest.mark.parametrize("command", COMMANDS)
def test_the_journal_of_a_killed_owner_is_left_as_it_is(shop, command):
    before = shop.content()
    assert before["durable.db-wal"]
    shop.durable(*command)
    assert shop.content() == before


def test_a_living_owner_is_not_disturbed(live):
    before = live.content()
    for command in COMMANDS:
        live.durable(*command)
    assert live.content() == before


def test_an_owner_that_starts_while_a_reader_is_there_is_seen(folder):
    """The reader holds a file that nobody had open: what an owner writes meanwhile is not missed, nor half seen."""
    code = """
        from durable.cli._reader import Reader, Wanted
        reader = Reader("durable.db")
        wanted = Wanted((), None, 0, 2**63 - 1)
        print(len(list(reader.newest(wanted))))
        import subprocess, sys
        for i in (2, 3):
            subprocess.run([sys.executable, "-c", "import shop2; shop2.buy({'id': %d, 'item': 'x'})" % i], check=True)
            print(len(list(reader.newest(wanted))))
        print(reader.run("order-3").status)
        """
    folder.run("buy({'id': 1, 'item': 'x'})")
    shutil.copy(folder.path / "shop.py", folder.path / "shop2.py")
    text = (folder.path / "shop2.py").read_text().replace("buy({'id': 1, 'item': 'x'})", "")
    (folder.path / "shop2.py").write_text(text)
    assert folder.run(code, prelude="").split() == ["1", "2", "3", "completed"]


@pytest.mark.unwatched
@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_folder_will_do(folder, shop, killed):
    folder.run("buy({'id': 1, 'item': 'x'})")
    with _read_only(shop if killed else folder) as copy:
        done = _as_somebody(copy, "ls")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == (7 if killed else 1)


@pytest.mark.unwatched
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("command", [["cancel", "order-1"], ["signal", "order-1", "go", "1"]])
def test_who_may_not_write_is_told_what_it_takes(folder, shop, killed, command):
    """The WAL of an owner that was killed is written again before anything is added to it."""
    folder.run("buy({'id': 1, 'item': 'x'})")
    with _read_only(shop if killed else folder) as copy:
        done = _as_somebody(copy, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "attempt to write a readonly" in done.stderr
    assert "this process has to be allowed to write the file, and to make files in its folder" in done.stderr


@contextlib.contextmanager
def _read_only(folder):
    """A copy of the journal that nobody may write."""
    with tempfile.TemporaryDirectory() as name:  # not below pytest's own, which others may not enter
        path = Path(name)
        for file in folder.path.glob("durable.db*"):
            Path(shutil.copy(file, path)).chmod(0o444)
        path.chmod(0o555)
        try:
            yield type(folder)(path)
        finally:
            path.chmod(0o755)


def _as_somebody(folder, *arguments):
    """Not as root, who may write everywhere. What is imported late must be there before."""
    if os.getuid():
        return folder.durable(*arguments)
    code = """
import os, sys
import datetime, heapq, json, unicodedata
from durable.cli import COMMANDS, main
import importlib
for command in COMMANDS: importlib.import_module(f"durable.cli.commands.{command}")
sys.stdout = sys.stderr = open(os.devnull, "w")
main(["--db", "no such file", "ls"])
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder.path, env=folder.environment, capture_output=True, text=True, timeout=60)


# -- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ls"], ["show", "x"]])
def test_no_journal_is_said_and_none_is_made(folder, command):
    done = folder.durable(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"durable: no journal in {folder.path}/durable.db: there is no such file\n"
    assert folder.content() == {}
    execute(folder, "CREATE TABLE mine (x)")
    before = folder.content()
    done = folder.durable(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"durable: no journal in {folder.path}/durable.db: ")
    assert folder.content() == before


@pytest.mark.parametrize("content", [b"", b"not a database, but a letter to a friend" * 100])
def test_a_file_that_is_no_journal(folder, content):
    (folder.path / "durable.db").write_bytes(content)
    done = folder.durable("ls")
    assert done.returncode == 1
    assert "no journal" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert folder.content() == {"durable.db": content}


def test_a_directory(folder):
    done = folder.durable("ls", "--db", ".")
    assert (done.returncode, done.stderr) == (1, f"durable: {folder.path} is a directory, no journal: name the file\n")


def test_a_journal_of_a_newer_version(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    execute(folder, "UPDATE durable_meta SET value = 99")
    done = folder.durable("ls")
    assert done.returncode == 1
    assert "newer version" in done.stderr


def test_a_damaged_run_costs_its_own_line(folder):
    folder.run("for id in (1, 2, 3): buy({'id': id, 'item': 'x'})")
    execute(folder, "UPDATE durable_run SET status = 'failed' WHERE id = 'order-2'")
    done = folder.durable("ls")
    assert done.returncode == 1
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["completed", "damaged", "completed"]
    assert "run 'order-2' is damaged" in rows[1][8]
    objects = folder.durable("ls", "--json")
    assert objects.returncode == 1
    assert '"status": "damaged"' in objects.stdout.splitlines()[1]
    on_terminal = folder.on_a_terminal("ls", NO_COLOR="1").splitlines()
    assert on_terminal[2].startswith("⁇ damaged")
    shown = folder.durable("show", "order-2")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "order-2" in shown.stderr
    assert folder.durable("show", "order-3").returncode == 0


def test_a_damaged_step_costs_its_own_line(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    execute(folder, "UPDATE durable_step SET output = '9' WHERE position = 0")
    done = folder.durable("show", "order-1")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split("\t")[2] for line in lines if line[0].isdigit()] == ["fulfill"]
    assert lines[-1].startswith("damaged\tthe record of operation 0 ('init')")
    as_json = folder.durable("show", "order-1", "--json")
    assert as_json.returncode == 1
    assert "operation 0 ('init')" in as_json.stdout.splitlines()[0]


def test_a_damaged_current_step_is_said_in_the_line_of_its_run(folder):
    folder.run_and_kill("buy({'id': 1, 'item': 'x', 'hang': True})", hanging=1)
    execute(folder, "UPDATE durable_step SET input = '{}' WHERE name = 'hang'")
    done = folder.durable("ls")
    row = done.stdout.rstrip("\n").split("\t")
    assert (done.returncode, row[0], row[2]) == (1, "interrupted", "order-1")
    assert "operation 2 ('hang')" in row[8]


# -- where it looks ---------------------------------------------------------------------------------------------------


def test_json_and_utc_may_stand_anywhere(shop):
    outputs = {shop.durable(*line).stdout for line in (["--json", "ls", "--utc"], ["--utc", "ls", "--json"])}
    assert len(outputs) == 1
    assert all(json.loads(line)["kind"] == "run" for line in outputs.pop().splitlines())
    assert json.loads(shop.durable("--json", "step", "order-1", "1").stdout)["name"] == "init"
    assert shop.durable("--utc", "ls").stdout == shop.durable("ls", "--utc").stdout


def test_db_may_stand_anywhere_and_the_environment_names_a_default(folder, shop):
    path = str(shop.path / "durable.db")
    for arguments in (["--db", path, "ls"], ["ls", "--db", path], [f"--db={path}", "ls", "--json"]):
        assert len(folder.durable(*arguments).stdout.splitlines()) == 7
    assert len(folder.durable("ls", DURABLE_DB=path).stdout.splitlines()) == 7
    assert folder.durable("ls", "--db", "other.db", DURABLE_DB=path).returncode == 1
    assert folder.durable("--db", "other.db", "ls", DURABLE_DB=path).returncode == 1
    assert folder.durable("ls", DURABLE_DB="").stderr.startswith(f"durable: no journal in {folder.path}/durable.db")


# -- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["no-such-command"], ["ls", "--status", "odd"], ["ls", "--since", "soon"], ["ls", "--since", "5"],
        ["ls", "--limit", "-1"], ["ls", "--limit", "x"], ["show"], ["show", ""], ["show", "a", "b"], ["ls", "--db"],
        ["ls", "--no-such-option"], ["ls", "--db", ""], ["--json", "ui"], ["ui", "--json"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(folder, arguments):
    done = folder.durable(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: durable" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "copy.db", "--staus"], "durable backup: error: unrecognized arguments: --staus"),
        (["--json", "show", "a", "b"], "durable show: error: unrecognized arguments: b"),
        (["--odd", "ls"], "durable: error: unrecognized arguments: --odd"),
        (["backup", ""], "durable backup: error: argument FILE: the path of a file is not empty"),
        (["watch", "--exit-status"], "durable watch: error: --exit-status is of a run: give its ID"),
        (["watch", "a", "--status", "failed"], "durable watch: error: an ID names one run: leave --status out"),
        (["watch", "a", "--before", "1d", "--workflow", "b"], "an ID names one run: leave --workflow and --before out"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_by_the_command_that_it_is_of(folder, arguments, said):
    assert said in folder.durable(*arguments).stderr


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "--help"], ["show", "--help"], ["--version"]])
def test_help_is_0(folder, arguments):
    done = folder.durable(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "durable" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(shop):
    command = f"{sys.executable} -m durable ls | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=shop.path, env=shop.environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_output_that_cannot_be_written_is_an_error(shop):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "durable", "ls"]
        done = subprocess.run(command, cwd=shop.path, env=shop.environment, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert b"cannot write the output" in done.stderr


def test_control_c_is_quiet(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    code = """
import os, signal
from durable.cli import main
from durable.cli.commands import ls
ls.Listing.print = lambda self: os.kill(os.getpid(), signal.SIGINT)
raise SystemExit(main(["ls"]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder.path, env=folder.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# -- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.unwatched
@pytest.mark.parametrize("command", [["ls"], ["ls", "--json"], ["show", "order-3"], ["step", "order-3", "1"]])
def test_nothing_slow_is_imported(shop, command):
    code = f"""
import sys
from durable.cli import main
code = main({command!r})
slow = {{"cattrs", "asyncio", "dataclasses", "inspect", "importlib.metadata", "logging", "shutil", "traceback"}}
print(sorted(slow & sys.modules.keys()), file=sys.stderr)
raise SystemExit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shop.path, env=shop.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.unwatched
@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["ls", "--status", "completed", "interrupted"], set()),
        (["ls"], {"json"}),
        (["ls", "--json"], {"datetime", "json"}),
    ],
)
def test_a_list_imports_nothing_that_is_for_values_or_for_executing(shop, command, needed):
    code = f"""
import sys
from durable.cli import main
code = main({command!r})
ours = {{name.split(".")[1] for name in sys.modules if name.startswith("durable.")}}
assert "cli" in ours
slow = {{"json", "datetime"}} & sys.modules.keys()
print(sorted(slow | ours & {{"_codec", "_effects", "_execution", "_engine", "_signature", "run"}}), file=sys.stderr)
raise SystemExit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shop.path, env=shop.environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, f"{sorted(needed)}\n")


BIG = """
import os, time
from durable._journal import Journal
from durable._model import RunRecord

journal = Journal("durable.db", full=False)
now = time.time()
journal.own(os.getpid(), now)

def fill(transaction):
    for i in range(50_000):
        waits = i < 25_000 and i % 2
        transaction.add_run(RunRecord(
            0, os.urandom(16).hex(), "rare" if i == 7 else f"common-{i % 3}", "m",
            "failed" if i == 5 else "waiting" if waits else "completed", "{}", None if waits else "1", None,
            now - 50_000 + i, None if waits else now, now + i if waits else None, None, None, 1, 0, 0, 0,
        ))

journal.write(fill)
journal.close(now)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A journal of 50,000 runs, only to be read."""
    folder = Folder(tmp_path_factory.mktemp("big"))
    folder.run("", prelude=BIG)
    return folder


def test_many_runs_cost_no_more_than_few(big):
    """No command may walk through all runs: SQLite counts the steps of its machine."""
    code = """
import sys, io
from durable.cli import COMMANDS, _args, _reader, _screen
class Counting(_reader.Reader):
    work = 0
    def _query(self, sql, values):
        if self._reader is None:
            super()._query("SELECT 1", ())
            self._reader.set_progress_handler(self.count, 100)
        return super()._query(sql, values)
    def count(self):
        Counting.work += 100
        return False
for line in sys.stdin:
    Counting.work = 0
    command, options = _args.parse(COMMANDS, ["ls", *line.split()])
    command.run(options, _screen.Screen(io.StringIO()), Counting("durable.db"))
    print(Counting.work)
"""
    options = [
        "", "--limit 10 --json", "--status failed", "--status blocked", "--status completed", "--status running",
        "--status completed failed", "--workflow rare", "--workflow none", "--workflow common-1",
        "--workflow rare --status completed", "--workflow common-1 --status failed", "--since 60s", "--before 600m",
        "--since 1s",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=big.path, env=big.environment, capture_output=True, text=True,
        input="\n".join(options),
    )  # fmt: skip
    work = dict(zip(options, map(int, done.stdout.split()), strict=True))
    print(work)
    assert max(work.values()) < 60_000, work  # a walk through 50,000 runs takes several times as many


def test_ls_is_fast(big):
    """Most of its work is to import itself: measured in the same moment, in time of the processor."""
    itself = "import durable.cli, durable.cli.commands.ls"
    both = [(_work(big, "-m", "durable", "ls"), _work(big, "-c", itself)) for _ in range(5)]
    listing, importing = map(min, zip(*both, strict=True))
    assert listing < 3 * importing


def _work(folder, *arguments):
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder.path, env=folder.environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime
