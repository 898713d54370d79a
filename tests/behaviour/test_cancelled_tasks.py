"""Tasks that are cancelled again and again, in a process of their own: what goes wrong there may end it."""

import subprocess
import sys

PROGRAM = """
import asyncio
import durable

ended = []

@durable.step
async def work(name):
    return name

@durable.workflow
async def flow():
    async def one():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(await work("clean up"))

    tasks = [asyncio.create_task(one()) for _ in range(2)]
    await work("begin")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

async def main():
    for _ in range(300):
        await flow()

asyncio.run(main())
print(len(ended))
"""


def test_hundreds_of_steps_of_cancelled_tasks_do_not_crash_python(tmp_path):
    """Before 3.13 it may read what is no object when it is asked what a running coroutine awaits."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "600\n"), done.stderr
