"""What README.md and docs/ show is what happens: every Python block runs, every transcript is played.

The blocks of a page run in its order, in one temporary folder a page:

- a `python` block that begins with a comment such as `# order.py` is that file, whole; a transcript runs it;
- any other `python` block runs in one process a page, in one namespace. `# raises ValueError` in it says that it is
  meant to fail so; comments `# prints: ...` say what it prints, all of it, in order;
- a `sh` or `text` block is not run;
- a `console` block is a transcript: commands after `$`, and what each prints. Ids, times, process ids and white space
  are normalised, and a line `...` stands for any lines. What needs the network or this repository is not run.
"""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATIENCE_SECONDS = 60
LANGUAGES = {"python", "console", "sh", "text"}

CRASH = re.compile(r"(python .*) & sleep [\d.]+; kill -9 \$!$")
NOT_RUN = re.compile(r"(pip|git|make|cd|uvicorn|gunicorn|crontab|durable-functions)\b")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    """The line of the page that the block's fence is on, counted from 1."""


class Transcript(NamedTuple):
    command: str
    output: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    blocks, language, start, lines = [], None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line.strip())
        if fence and language is None:
            language, start, lines = fence[1], number, []
        elif fence:
            blocks.append(Block(language, "".join(f"{text}\n" for text in lines), start))
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"{page}:{start}: a block without an end"
    return blocks


def file_of(block: Block) -> str | None:
    named = re.match(r"# ([\w/]+\.py)\n", block.text)
    return named[1] if named else None


def transcripts_of(block: Block) -> Iterator[Transcript]:
    command, output, start = None, [], 0
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            if command is not None:
                yield Transcript(command, "\n".join(output), start)
            command, output, start = line[2:], [], number
        else:
            assert command is not None, f"line {number}: output before the first command"
            output.append(line)
    if command is not None:
        yield Transcript(command, "\n".join(output), start)


# -- Python blocks ------------------------------------------------------------------------------------------------


class Interpreter:
    """A Python process that runs one block after the other."""

    def __init__(self, where: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("run_blocks.py"))],
            cwd=where,
            env={**environment(where), "DURABLE_DB": str(where / "blocks.db")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, page: Path, block: Block) -> dict[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"code": block.text, "file": str(page), "line": block.line}
        timer = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        timer.start()
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        finally:
            timer.cancel()
        assert answer, f"{page}:{block.line}: the process of this page's blocks is gone"
        return json.loads(answer)

    def close(self) -> None:
        with self._process as process:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()


def environment(where: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(where), kept.get("PYTHONPATH")]))
    terminal = {
        "TERM": "xterm",
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }  # whatever that of the tests is
    return {**kept, **terminal, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def check_python(page: Path, block: Block, interpreter: Interpreter) -> None:
    answer = interpreter.run(page, block)
    meant = re.search(r"# raises (\w+)", block.text)
    where = f"{page.relative_to(ROOT)}:{block.line}"
    assert answer["raised"] == (meant[1] if meant else ""), f"{where}\n{answer['trace']}"
    printed = re.findall(r"# prints: (.*)$", block.text, flags=re.MULTILINE)
    if printed:
        assert normal(answer["printed"]) == normal("\n".join(printed)), where


# -- transcripts --------------------------------------------------------------------------------------------------


def check_transcript(page: Path, transcript: Transcript, where: Path) -> None:
    command = transcript.command.partition("   #")[0].strip()
    place = f"{page.relative_to(ROOT)}:{transcript.line}: $ {command}"
    if made := re.match(r"make (\w+)", command):
        assert re.search(rf"^{made[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), place
    if NOT_RUN.match(command):
        return
    if crash := CRASH.match(command):
        printed = run_and_kill(crash[1], transcript.output, where)
    elif query := re.fullmatch(r'sqlite3 (\S+) "(.*)"', command):
        printed = run_query(where / query[1], query[2])
    else:
        printed = run(command, where)
    expected = normal(transcript.output)
    found = normal(printed)
    assert re.fullmatch(pattern(expected), found), (
        f"{place}\n--- printed\n{printed}\n--- normalised\n{found}\n{expected}"
    )


def run(command: str, where: Path) -> str:
    """Run a command, with its output on a terminal, as a reader sees it."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", real(command)],
        cwd=where,
        env=environment(where),
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    timer = threading.Timer(PATIENCE_SECONDS, process.kill)
    timer.start()
    printed = b""
    with process, contextlib.suppress(OSError):  # EIO: everything on the other side is closed
        while part := os.read(ours, 65536):
            printed += part
    timer.cancel()
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def real(command: str) -> str:
    """The command with the Python and the library under test."""
    command = re.sub(r"(^|[;&|] *|\w+=\S+ )durable\b", rf"\1{sys.executable} -m durable", command)
    return re.sub(r"(^|[;&|] *|\w+=\S+ )python\b", rf"\1{sys.executable}", command)


def run_and_kill(command: str, expected: str, where: Path) -> str:
    """Start the program, and kill it as soon as it has printed what the page shows: no sleep to be too short."""
    lines = [line for line in expected.splitlines() if line and not line.startswith("[")]
    with subprocess.Popen(
        ["sh", "-c", f"exec {real(command)}"],
        cwd=where,
        env=environment(where),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in lines]
        assert process.poll() is None, f"ended before it could be killed:\n{''.join(printed)}"
        process.kill()
        timer.cancel()
    assert process.returncode == -signal.SIGKILL
    return "".join(printed)


def run_query(path: Path, query: str) -> str:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return "\n".join("|".join(map(str, row)) for row in db.execute(query.replace("\\", "")))


NORMAL = [
    (r"^\[\d\][ +].*\n?", ""),  # what the shell says of background jobs
    (r"File \"[^\"]*/([\w.]+)\", line \d+", r'File "\1"'),
    (r"^ +[\^~]+ *\n", ""),  # the markers of newer Pythons
    (r"\x1b\[\?1049h.*?\x1b\[\?1049l", ""),  # a page that was drawn on, and is gone
    (r"\b[0-9a-f]{32}\b", "<id>"),
    (r"\b[0-9a-f]{8}\b", "<id>"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "<time>"),
    (r"<?\b\d+(\.\d+)? ?(µs|ms|s|m|min|h|d)( ago)?\b", "<span>"),
    (r"\bprocess \d+\b", "process <pid>"),
    (r"(written to \S+), [\d.]+ kB$", r"\1, <size>"),  # in which tracebacks have paths of this machine
    (r"(/[\w.+-]+)+/(?=[\w.-]+\.db)", ""),
    (r"[ \t]+", " "),
    (r" +$", ""),
    (r"[-─]{3,}", "---"),
]


def normal(text: str) -> str:
    text = re.sub(r"(\r\x1b\[K[^\r\n]*)*\r\x1b\[K", "", text)  # a line of progress, which a slow machine draws
    for what, by in NORMAL:
        text = re.sub(what, by, text, flags=re.MULTILINE)
    return text.strip()


def pattern(expected: str) -> str:
    """What the normalised output has to match; a line that the terminal cut may be cut elsewhere."""
    return "".join(_pattern(line) for line in expected.splitlines())


def _pattern(line: str) -> str:
    if line == "...":
        return r"[\s\S]*?"  # one star: a star of stars never ends where the text differs
    cut = re.fullmatch(r"(.*?).{0,12}…", line)
    return (re.escape(cut[1]) + ".*" if cut else re.escape(line)) + r"\n?"


# -- the tests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page_shows_what_happens(page: Path, tmp_path: Path) -> None:
    saved: dict[str, str] = {}
    transcripts = ""
    interpreter = Interpreter(tmp_path)
    try:
        for block in blocks_of(page):
            if block.language == "python" and (name := file_of(block)):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(block.text, encoding="utf-8")
                saved[name] = block.text
            elif block.language == "python":
                check_python(page, block, interpreter)
            elif block.language == "console":
                for transcript in transcripts_of(block):
                    transcripts += f"{transcript.command}\n"
                    check_transcript(page, transcript, tmp_path)
    finally:
        interpreter.close()
    for name in saved:
        imported = rf"(from|import) {name.removesuffix('.py')}\b"
        used = name in transcripts or any(re.search(imported, text) for text in saved.values())
        used = used or (name.startswith("test_") and "-m pytest" in transcripts)
        assert used, f"{name} of {page.name} is shown, and never run"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: {block.language or 'no language'}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors_of(path), f"{page.name} links to {target}: no such heading"


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_links_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert str(page.relative_to(ROOT)) in readme, f"README.md does not link to {page.relative_to(ROOT)}"


def test_sh_is_there() -> None:
    assert shutil.which("sh"), "transcripts are played by sh"
