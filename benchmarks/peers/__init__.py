"""The same work with other libraries, each in an environment of its own: `python -m benchmarks.peers`.

Nothing here but `__main__.py` and `environments.py` is imported by the benchmarks: each program runs by itself in the
environment of its library, reads commands from its standard input and answers in JSON (see `worker.py`).
"""
