"""`durable watch`: what is on the terminal, played back, while a real program runs, dies and goes on."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


class Terminal:
    """A terminal with a program on it, and what a person sees there: it knows the few orders that the program uses."""

    def __init__(self, folder, *arguments, width=100, height=24, **environment):
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._height = height
        self.process = subprocess.Popen(
            [sys.executable, "-m", "durable", *arguments],
            cwd=folder.path, env={**folder.environment, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", **environment},
            stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self._page, self._other, self._row, self._column = [""] * height, [], 0, 0
        self.on_page = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._leader)

    def lines(self):
        return [line.rstrip() for line in self._page]

    def text(self):
        return "\n".join(self.lines())

    def until(self, wanted, seconds=60):
        """Read until the picture has it."""
        deadline = time.monotonic() + seconds
        while not wanted(self.text()):
            assert time.monotonic() < deadline, self.text()
            if not self._read(0.2) and self.process.poll() is not None:
                assert wanted(self.text()), self.text()

    def end(self):
        """Read to the end; the exit code."""
        while self._read(20):
            pass
        return self.process.wait(60)

    def _read(self, seconds):
        if not select.select([self._leader], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._leader, 65536)
        except OSError:
            return False
        for part in re.findall(r"\x1b\[\??\d*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", data.decode()):
            self._obey(part)
        return bool(data)

    def _obey(self, part):
        if part == "\x1b[?1049h":
            self._other, self._page, self.on_page = self._page, [""] * self._height, True
        elif part == "\x1b[?1049l":
            self._page, self.on_page, self._row, self._column = self._other, False, 0, 0
        elif part == "\x1b[H":
            self._row = self._column = 0
        elif part == "\x1b[2K":
            self._page[self._row] = ""
        elif part == "\x1b[J":
            self._page[self._row :] = [self._page[self._row][: self._column]] + [""] * (len(self._page) - self._row - 1)
        elif part == "\r":
            self._column = 0
        elif part == "\n":
            self._row += 1
            if self._row == len(self._page):
                self._page.append("")
        elif not part.startswith("\x1b"):
            line = self._page[self._row].ljust(self._column)
            self._page[self._row] = line[: self._column] + part + line[self._column + len(part) :]
            self._column += len(part)


SLOW = """
@durable.step
def wait_for(name: str) -> str:
    while not os.path.exists(name): time.sleep(0.01)
    return name

@durable.workflow(id="slow")
def slow() -> str:
    return wait_for("first") + wait_for("second")
print(slow())
"""


def test_a_run_from_its_death_to_its_end(folder):
    process = folder.start(SLOW)
    while not (folder.path / "durable.db").exists() or not folder.durable("ls").stdout:
        time.sleep(0.02)
    with Terminal(folder, "watch", "slow", "--exit-status") as terminal:
        terminal.until(lambda text: "▸ running  slow  slow" in text)
        assert terminal.on_page
        (folder.path / "first").touch()
        terminal.until(lambda text: re.search(r'1  ✓ completed  wait_for .* "first"', text))
        kill(process)
        terminal.until(lambda text: "↯ interrupted  slow  slow" in text and "died" in text)
        process = folder.start(SLOW)
        terminal.until(lambda text: "▸ running" in text)
        (folder.path / "second").touch()
        assert terminal.end() == 0
        assert not terminal.on_page
        assert terminal.lines()[0] == "✓ completed  slow  slow"
        assert 'result    "firstsecond"' in terminal.lines()
    process.communicate(timeout=60)


def test_the_list_grows_and_control_c_ends_it(folder):
    folder.run("buy({'id': 1, 'item': 'x'})")
    with Terminal(folder, "watch", height=10) as terminal:
        terminal.until(lambda text: "order-1" in text)
        folder.run("for i in range(2, 30): buy({'id': i, 'item': 'x'})")
        terminal.until(lambda text: "order-29" in text and "more" in text)  # all of the picture
        assert terminal.lines()[0].startswith("STATUS")
        assert len(terminal.lines()) == 10
        assert re.search(r"… and \d+ more: durable ls --limit 0 shows all", terminal.lines()[-1])
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert not terminal.on_page
        assert "Traceback" not in terminal.text()


def test_a_long_run_keeps_its_head_and_its_end(folder):
    process = folder.start(
        """
        @durable.workflow(id="long")
        def long() -> None:
            for i in range(100): init({"i": i})
            hang({})
        long()
        """
    )
    assert process.stdout.readline() == "hanging\n"
    try:
        with Terminal(folder, "watch", "long", height=15) as terminal:
            terminal.until(lambda text: "hang" in text)
            assert terminal.lines()[0] == "▸ running  long  long"
            assert len(terminal.lines()) == 15
            assert re.search(r"^99 +✓ completed +init", terminal.text(), re.MULTILINE)
    finally:
        kill(process)


@pytest.mark.parametrize(("id", "code"), [("order-1", 0), ("order-3", 1), ("moody", 1)])
def test_exit_status(shop, id, code):
    assert shop.durable("watch", id, "--exit-status").returncode == code
    assert shop.durable("watch", id).returncode == 0


def test_what_is_over_is_shown_once(shop):
    rows = shop.durable("watch", "order-2").stdout.splitlines()
    assert [row.split("\t")[:4] for row in rows] == [["completed", "buy", "order-2", "2"]]
    [run] = shop.objects("watch", "order-2")
    assert run == {**run, **shop.objects("ls", "--workflow", "buy")[-2], "why": ""}
    assert shop.durable("watch", "order-2", TERM="dumb").returncode == 0
    assert shop.durable("watch", "nobody").returncode == 3
    text = shop.on_a_terminal("watch", "order-2", TERM="dumb")
    assert text.split()[:4] == ["✓", "completed", "buy", "order-2"]
    assert "\x1b" not in text


WATCH_IS_LATE = """
from durable.cli import main
from durable.cli.commands import watch

find = watch.find

def find_early(*arguments):
    found = find(*arguments)
    subprocess.run([sys.executable, "-m", "durable", "rm", found.id], stdout=subprocess.DEVNULL, check=True)
    another()
    durable.close()
    return found

watch.find, sys.stderr = find_early, sys.stdout
sys.exit(main(["watch", "run"]))
"""
PROGRAM = """
import subprocess, sys
import durable

durable.open("durable.db")

@durable.workflow(id="run")
def flow() -> None: ...

@durable.workflow(id="another")
def another() -> None: ...
"""


def test_another_run_that_has_the_key_of_a_deleted_one_is_not_taken_for_it(folder):
    folder.run("flow()", PROGRAM)
    said = folder.run(WATCH_IS_LATE, PROGRAM, expect=3)
    assert said == "durable: run run of 'flow' was deleted while it was watched\n"


def test_a_line_for_each_change_in_a_pipe(folder):
    process = folder.start(SLOW)
    while not (folder.path / "durable.db").exists() or not folder.durable("ls").stdout:
        time.sleep(0.02)
    for arguments in (["slow"], []):
        watching = subprocess.Popen(
            [sys.executable, "-m", "durable", "watch", "--json", *arguments],
            cwd=folder.path, env=folder.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        seen = [json.loads(watching.stdout.readline())]
        if arguments:
            (folder.path / "first").touch()
            seen.append(json.loads(watching.stdout.readline()))
            assert [(run["status"], run["steps_done"]) for run in seen] == [("running", 0), ("running", 1)]
        else:
            (folder.path / "second").touch()
            assert json.loads(watching.stdout.readline())["status"] == "completed"
        watching.kill()
        watching.communicate()
    process.communicate(timeout=60)
