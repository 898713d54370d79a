"""`resume(wait=True)` on a terminal says how far it is, and nothing anywhere else."""

MANY = """
import os, sys, time
import durable

@durable.step
def nap(number: int) -> int:
    time.sleep(1000 if sys.argv[1:] == ["begin"] else 0.3)
    return number

@durable.workflow
def work(number: int) -> int:
    return nap(number)

with durable.Engine("durable.db", threads=1) as engine:
    if sys.argv[1:] == ["begin"]:
        work.start_many(range(3))
        os._exit(0)
    else:
        engine.resume(wait=True)
"""


def test_progress_of_resuming(folder):
    (folder.path / "many.py").write_text(MANY)
    folder.on_a_terminal("begin", program=("many.py",))
    text = folder.on_a_terminal(program=("many.py",), NO_COLOR="1")
    assert "resuming  " in text
    assert " of 3 runs" in text
    assert text.endswith("\r\x1b[K")
    assert [run["status"] for run in folder.objects("ls")] == ["completed"] * 3
