"""The pool of daemon threads where no thread can be made."""

import queue
import threading

import pytest

from durable._thread_pool import ThreadPool
from durable.errors import EngineClosedError


def refuse(_):
    raise RuntimeError("can't start new thread")


@pytest.fixture
def no_threads(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refuse)
    return monkeypatch


def test_a_job_without_a_thread_is_forgotten_and_takes_no_room_in_the_pool(no_threads):
    pool, done = ThreadPool("pool", 1), queue.Queue()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.submit(lambda: done.put("refused"))
    no_threads.undo()
    pool.submit(lambda: done.put("first"))
    pool.submit(lambda: done.put(threading.current_thread().name))
    assert [done.get(timeout=60) for _ in range(2)] == ["first", "pool-1"]


def test_a_pool_without_a_thread_at_the_end_of_the_program_says_so(no_threads):
    no_threads.setattr(threading, "main_thread", threading.Thread)  # one that is not alive
    with pytest.raises(EngineClosedError, match="the program ends"):
        ThreadPool("pool", None).submit(lambda: None)


def test_who_waits_at_the_end_of_the_program_lends_a_thread_that_cannot_be_made(monkeypatch):
    pool, done, goes_on = ThreadPool("pool", 1), queue.Queue(), threading.Event()

    def job():
        goes_on.wait(60)
        with pool.lending():
            done.put("lent")

    pool.submit(job)
    pool.submit(lambda: done.put("waited"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threading, "main_thread", threading.Thread)
    goes_on.set()
    assert [done.get(timeout=60) for _ in range(2)] == ["lent", "waited"]
