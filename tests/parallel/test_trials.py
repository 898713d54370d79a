"""Random programs that crash and go on: a sample of `python -m tests.parallel.trials --trials 10000`."""


def test_random_programs_take_the_same_path_whatever_finishes_first(module, size):
    trials = size(150, 10_000)
    code, output = module("tests.parallel.trials", "--trials", str(trials), timeout=size(110, 3000))
    print(output[-800:])
    assert code == 0, output
