"""Random programs that crash and go on: a sample of `python -m tests.parallel.trials --trials 10000`.

What is held here is safety: no value at a wrong call, no completed step again, no outcome lost. That every such program
also takes the same path again is not so yet: some in a hundred, most of them with timers side by side, are stopped as
blocked, or wait (docs/guarantees.md, "The order of async outcomes"). The script counts those too, and fails for them.
"""

import re


def test_random_programs_get_no_wrong_value_repeat_no_step_and_lose_none(module, size):
    trials = size(20, 10_000)
    _, output = module("tests.parallel.trials", "--trials", str(trials), timeout=size(110, 3000))
    print(output[-800:])
    counted = dict(re.findall(r"^(\w[\w ]*?) +(\d+)$", output, re.MULTILINE))
    assert counted["trials"] == str(trials)
    assert (counted["wrong"], counted["repeated"], counted["lost"]) == ("0", "0", "0"), output
