"""What holds for every test, whoever starts them."""

import compileall
import gc
import os
import re
import signal
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A shell that starts something in the background has it ignore Ctrl-C, and so would each program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A module that a test changes twice within a second would be taken for the old one.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_configure(config):
    """Programs that tests start are many, and would each compile the library anew."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(ROOT / "src", quiet=2)
        compileall.compile_dir(ROOT / "tests", rx=re.compile(r"/(test_\w+|conftest)\.py"), quiet=2)


def pytest_collection_finish():
    """The tests themselves stay: to look through five thousand of them for garbage takes longer than most tests."""
    gc.freeze()
