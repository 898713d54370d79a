"""Everything at once, while another process reads: a short one of `python -m tests.parallel.hammer --seconds 60`."""


def test_no_error_no_lost_outcome_and_a_small_wal(module, size):
    code, output = module("tests.parallel.hammer", "--seconds", str(size(1, 60)), timeout=size(280, 400))
    print(output)
    assert code == 0, output
