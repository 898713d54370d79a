"""`durable doctor` on journals that are whole, damaged, left behind, and not journals at all."""

import contextlib
import json
import shutil
import sqlite3

import pytest


def findings(folder, *options):
    done = folder.durable("doctor", *options, "--json")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def problems(found):
    return [each for each in found if each["level"] == "problem"]


@pytest.fixture
def copy(folder, shop):
    for file in shop.path.iterdir():
        shutil.copy(file, folder.path)
    return folder


def test_a_sound_journal(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    code, found = findings(folder)
    assert code == 0
    assert {each["level"] for each in found} == {"ok"}
    texts = {each["name"]: each["text"] for each in found}
    assert texts["steps"] == "2, all as they were written"
    assert texts["integrity"] == "SQLite finds nothing wrong with the file"
    assert "format 1" in texts["file"]
    assert "stopped" in texts["owner"]
    assert not {"integrity", "steps"} & {each["name"] for each in findings(folder, "--quick")[1]}


def test_what_a_killed_owner_left(shop):
    code, found = findings(shop)
    assert code == 1  # a run is blocked
    texts = {each["name"]: each for each in found}
    assert f"process {shop.pid} died" in texts["owner"]["text"]
    assert texts["unfinished"]["text"] == "3 interrupted, nobody executes them"
    assert "durable.resume()" in texts["unfinished"]["todo"]
    [blocked] = problems(found)
    assert blocked["text"] == "moody  moody"
    assert "durable.now()" in blocked["todo"]  # the message says what to do


def test_a_living_owner(live):
    texts = {each["name"]: each["text"] for each in findings(live)[1]}
    assert texts["owner"].startswith(f"process {live.pid} is alive; it took the journal ")
    assert texts["unfinished"] == "none of them is left behind"


def test_a_record_that_was_changed(copy):
    with contextlib.closing(sqlite3.connect(copy.path / "durable.db")) as db, db:
        db.execute("UPDATE durable_step SET output = '\"other\"' WHERE name = 'fulfill' AND output IS NOT NULL")
    code, found = findings(copy)
    assert code == 1
    steps = [each["text"] for each in problems(found) if each["name"] == "steps"]
    assert len(steps) == 4
    assert all("damaged" in text for text in steps)


def test_a_file_whose_pages_were_overwritten(copy):
    with contextlib.closing(sqlite3.connect(copy.path / "durable.db")) as db:
        [[page]] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'durable_run_status'")
        [[size]] = db.execute("PRAGMA page_size")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(copy.path / "durable.db", "r+b") as file:
        file.seek((page - 1) * size + 8)
        file.write(bytes(100))
    code, found = findings(copy)
    assert code == 1
    assert any(each["name"] in {"integrity", "file"} for each in problems(found))


def test_what_is_no_journal(folder):
    assert findings(folder)[0] == 1
    (folder.path / "durable.db").write_text("not a database at all, but long enough to look like one " * 20)
    code, [found] = findings(folder)
    assert (code, found["name"], found["level"]) == (1, "file", "problem")
    assert "no journal, or it is damaged" in found["text"]


def test_a_file_that_others_may_read_and_a_large_wal(copy):
    (copy.path / "durable.db").chmod(0o644)
    with open(copy.path / "durable.db-wal", "ab") as file:
        file.truncate(70_000_000)
    found = {each["name"]: each for each in findings(copy, "--quick")[1]}
    assert found["mode"]["todo"] == f"chmod 600 {copy.path}/durable.db"
    assert found["wal"]["level"] == "note"
    assert found["wal"]["text"] == "70.0 MB, which is large"


# -- the program ------------------------------------------------------------------------------------------------------

PROGRAM = """
import durable
print("imported")
@durable.workflow
def pages(urls: list[str]) -> list[str]: return urls
@durable.workflow
def {name}(order: dict) -> str: return ""
@durable.workflow
def moody(x: int) -> int: return x
"""


def test_workflows_that_the_program_lacks(copy):
    (copy.path / "new.py").write_text(PROGRAM.format(name="buy"))
    [found] = [each for each in findings(copy, "--module", "new")[1] if each["name"] == "module"]
    assert found["level"] == "ok"
    (copy.path / "new.py").write_text(PROGRAM.format(name="purchase"))
    for module in ("new", "new.py", f"{copy.path}/new.py"):
        [found] = [each for each in findings(copy, "--module", module)[1] if each["name"] == "module"]
        assert found["level"] == "problem"
        assert found["text"] == f"2 unfinished of buy, which {module} lacks"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import durable; durable.resume()", "executes runs when it is imported"),
        ("import durable\n@durable.workflow\ndef f(): print('ran')\nf()", "executes runs when it is imported"),
        ("1 / 0", "new cannot be imported: ZeroDivisionError: division by zero ("),
        ("import nowhere", "No module named 'nowhere'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_modules_that_cannot_be_looked_at(copy, code, message):
    (copy.path / "new.py").write_text(code)
    before = copy.content()
    code, found = findings(copy, "--module", "new", "--quick")
    assert code == 1
    assert message in found[-1]["text"]
    assert {k: v for k, v in copy.content().items() if k != "__pycache__"} == before


def test_on_a_terminal(shop):
    text = shop.on_a_terminal("doctor", NO_COLOR="1", width=80)
    lines = [line.rpartition("\x1b[K")[2] for line in text.split("\n")]  # less lines of progress
    assert lines[0].startswith("✓ file       ")
    assert "✗ blocked    moody  moody" in lines
    assert max(map(len, lines)) <= 80
