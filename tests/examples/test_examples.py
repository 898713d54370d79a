"""Every example runs for real, as a process, and prints what its last comment says."""

import csv
import os
import random
import re
import runpy
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LAST_LINE_OF_DEMO = "init_order ran once, fulfill_order twice, archive_order once"
SEED = int(os.environ.get("EXAMPLES_SEED", "20"))
MOST_KILLS = 8


def command(example: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / example), *arguments]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}


def run(where: Path, example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(example, *arguments),
        cwd=where,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def last_comment(example: str) -> tuple[list[str], str]:
    """The arguments that an example's last comment names, and the output that it promises."""
    source = (EXAMPLES / example).read_text()
    found = re.search(r"\n# `python examples/(\S+)(.*)` prints\n((?:#     .*\n)+)\Z", source)
    assert found, f"{example} does not end with a comment that says what it prints"
    assert found[1] == example
    return shlex.split(found[2]), re.sub(r"^#     ", "", found[3], flags=re.MULTILINE)


def test_every_example_is_under_80_lines_and_is_tested() -> None:
    scripts = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}
    assert scripts.keys() == {"demo.py", "fetch_pages.py", "import_csv.py", "order_item.py", "test_order_item.py"}
    del scripts["demo.py"]  # plays another example; a user's program does not look like it
    long = {name: lines for name, text in scripts.items() if (lines := text.count("\n")) >= 80}
    assert not long


@pytest.mark.parametrize("example", ["fetch_pages.py", "import_csv.py", "order_item.py"])
def test_prints_what_its_last_comment_says(example: str, tmp_path: Path) -> None:
    arguments, promised = last_comment(example)
    ended = run(tmp_path, example, *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, promised, "")


@pytest.mark.parametrize("example", ["import_csv.py", "order_item.py"])
def test_says_the_same_again_without_doing_it_again(example: str, tmp_path: Path) -> None:
    arguments, promised = last_comment(example)
    assert run(tmp_path, example, *arguments).stdout == promised
    before = {path.name: path.read_bytes() for path in targets(tmp_path)}
    assert run(tmp_path, example, *arguments).stdout == promised
    assert {path.name: path.read_bytes() for path in targets(tmp_path)} == before


def test_the_tests_of_the_order_program_pass(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_order_item.py")]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (EXAMPLES / "test_order_item.py").read_text().endswith("#     4 passed\n")
    assert ended.returncode == 0, ended.stdout
    assert "4 passed" in ended.stdout


def targets(where: Path) -> list[Path]:
    return [p for p in where.iterdir() if p.name in {"archive.db", "contacts.db", "orders.log"}]


def test_the_demo_does_what_it_claims() -> None:
    ended = run(EXAMPLES, "demo.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1] == LAST_LINE_OF_DEMO
    assert f"#     {LAST_LINE_OF_DEMO}\n" in (EXAMPLES / "demo.py").read_text()


def test_a_refused_card_is_not_retried(tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the journal
        ended = run(tmp_path, "order_item.py", "44")
        assert ended.returncode == 1
        assert "PaymentFailed: the card is expired" in ended.stderr
        assert (tmp_path / "orders.log").read_text() == "init_order 44\n"


def test_contacts_are_what_their_generator_writes() -> None:
    data = EXAMPLES / "data"
    rows = runpy.run_path(str(data / "make_contacts.py"))["rows"]()
    with (data / "contacts.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1:] == [list(row) for row in rows]


def test_import_killed_at_random_moments_has_each_row_exactly_once(tmp_path: Path) -> None:
    _, promised = last_comment("import_csv.py")
    bad = {line.partition(": ")[2] for line in promised.splitlines()[1:]}
    with (EXAMPLES / "data" / "contacts.csv").open(newline="", encoding="utf-8") as file:
        good = [tuple(row) for row in list(csv.reader(file))[1:] if ",".join(row) not in bad]
    kills = import_with_kills(tmp_path, random.Random(SEED))
    with closing(sqlite3.connect(tmp_path / "contacts.db")) as db:
        # By rowid: the order in which they went in. A batch lost, or put in late, shows.
        found = db.execute("SELECT email, name, since FROM contacts ORDER BY rowid").fetchall()
    assert found == good
    assert kills >= 2, f"{kills} kills are too few to show anything"


def import_with_kills(where: Path, chance: random.Random) -> int:
    """Runs the import, kills it, until it gets to its end, at last undisturbed; returns the number of kills."""
    arguments, promised = last_comment("import_csv.py")
    for kills in range(MOST_KILLS + 1):
        with subprocess.Popen(
            command("import_csv.py", *arguments),
            cwd=where,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            if kills < MOST_KILLS:
                if chance.random() < 0.3:  # at any moment: at start-up too, or at the end
                    time.sleep(chance.uniform(0, 0.5))
                else:  # at work
                    wait_for_next_row(process, where, count_rows(where))
                    time.sleep(chance.uniform(0, 0.02))
                process.kill()
            output, _ = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert (process.returncode, output) == (0, promised)
            return kills
    pytest.fail("it was killed by somebody else")


def wait_for_next_row(process: subprocess.Popen[str], where: Path, rows: int) -> None:
    """Until the process has got somewhere, so that a kill hits it at work and not at start-up."""
    while process.poll() is None and count_rows(where) <= rows:
        time.sleep(0.002)


def count_rows(where: Path) -> int:
    if not (where / "contacts.db").exists():
        return 0
    with closing(sqlite3.connect(where / "contacts.db")) as db:
        try:
            return int(db.execute("SELECT count(*) FROM contacts").fetchone()[0])
        except sqlite3.OperationalError:  # no table yet, or locked for this instant
            return 0
