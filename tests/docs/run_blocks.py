"""Runs the Python blocks of one page in this process, in one namespace: the program behind test_blocks.py.

Reads one JSON object a line, `{"code": ..., "file": ..., "line": ...}`, and answers each with
`{"printed": ..., "raised": ..., "trace": ...}`.
"""

import contextlib
import io
import json
import sys
import traceback

_requests, _answers = sys.stdin, sys.stdout

for _request in _requests:
    _block = json.loads(_request)
    _printed = io.StringIO()
    _raised = _trace = ""
    with contextlib.redirect_stdout(_printed):
        try:
            # Blank lines first, so that a traceback names the line of the page.
            exec(compile("\n" * _block["line"] + _block["code"], _block["file"], "exec"), globals())
        except BaseException as _error:
            _raised, _trace = type(_error).__name__, traceback.format_exc()
            del _error
    print(
        json.dumps({"printed": _printed.getvalue(), "raised": _raised, "trace": _trace}),
        file=_answers,
        flush=True,
    )
