"""Random programs that are changed under an interrupted run. Many more: `python -m tests.parallel.changed --trials 1000`."""

import re


def test_changed_programs_are_blocked_or_end_and_complete_when_they_are_put_back(module, size):
    code, output = module(
        "tests.parallel.changed", "--seed", "1", "--trials", str(size(8, 300)), timeout=size(200, 900)
    )
    assert code == 0, output
    assert re.search(r"^blocked +[1-9]", output, re.MULTILINE), output
