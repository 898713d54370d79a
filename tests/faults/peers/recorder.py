"""Records what any process does to the files of a folder: for libraries that cannot be given a VFS.

`recorder.c` is compiled, and stands between the process and its C library (`LD_PRELOAD`). The log that comes of it is
like the one of `disk.Recorder`, with the lines that the program writes into its notes in between.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

from tests.faults.disk import Op

_HEAD = struct.Struct("<cBQI")
_KINDS = {b"m": "make", b"r": "remove", b"w": "write", b"t": "truncate", b"s": "sync"}


def compiled(folder: Path) -> Path:
    """The recorder, compiled into the folder."""
    compiler = shutil.which("cc")
    if compiler is None:
        msg = "the recorder of writes and syncs is written in C, and there is no compiler (cc) here"
        raise SystemExit(msg)
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run([compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def record(command: list[str], recorder: Path, folder: Path, file: str) -> list[Any]:
    """Run a program that keeps `file` in the folder; what it did to that, and its notes as lists of words, in order."""
    log = folder.with_suffix(".log")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(recorder),
        "RECORDER_LOG": str(log),
        "RECORDER_FOLDER": str(folder),
        "RECORDER_FILE": file,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return _read(log.read_bytes())


def _read(data: bytes) -> list[Any]:
    found: list[Any] = []
    at = 0
    while at < len(data):
        kind, length, offset, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name, content = data[at : at + length].decode(), data[at + length : at + length + size]
        at += length + size
        if kind == b"n":
            found.append(content.decode().split())
        else:
            found.append(Op(_KINDS[kind], "" if name == "." else name, offset, content))
    return found
