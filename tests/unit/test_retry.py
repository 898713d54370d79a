"""The delays of a policy, and bad options refused where they are written."""

import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import NonRetryableError, RetryAfter, RetryPolicy, SerializationError, StepInterruptedError
from durable._retry import ONE_ATTEMPT, is_final, longest_delay, next_delay
from durable.errors import StepTimeoutError

BOOM = RuntimeError("boom")


class PaymentFailed(Exception):
    class Refused(Exception):
        pass


class CardExpired(PaymentFailed):
    pass


seconds = st.floats(0, 1e9, allow_nan=False)
policies = st.builds(
    RetryPolicy,
    initial_interval=seconds,
    backoff_coefficient=st.floats(1, 1e6),
    maximum_interval=seconds,
    maximum_attempts=st.just(0),
    jitter=st.floats(0, 1),
)
failures = st.integers(1, 10**6)
chances = st.floats(0, 1)


# -- delays -----------------------------------------------------------------------------------------------------------


@given(policies, failures, chances)
def test_no_delay_is_beyond_the_maximum_or_negative(policy, count, chance):
    delay = next_delay(policy, count, BOOM, chance)
    assert delay is not None
    assert 0 <= delay <= policy.maximum_interval


@given(policies, failures, chances)
def test_jitter_moves_a_delay_by_its_share_at_most(policy, count, chance):
    plain = longest_delay(policy, count)
    delay = next_delay(policy, count, BOOM, chance)
    assert delay is not None
    slack = plain * 1e-9
    assert plain * (1 - policy.jitter) - slack <= delay <= plain * (1 + policy.jitter) + slack


@given(policies, failures)
def test_a_later_failure_never_waits_less(policy, count):
    assert longest_delay(policy, count) <= longest_delay(policy, count + 1)


@given(policies, failures, chances)
def test_more_chance_never_waits_less(policy, count, chance):
    low, high = next_delay(policy, count, BOOM, 0.0), next_delay(policy, count, BOOM, 1.0)
    middle = next_delay(policy, count, BOOM, chance)
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low <= middle <= high


@given(policies, failures, chances, st.floats(0, 1e12))
def test_retry_after_is_taken_as_it_is(policy, count, chance, asked):
    assert next_delay(policy, count, RetryAfter(asked), chance) == asked


@given(st.integers(1, 50), st.integers(1, 100), chances)
def test_failures_are_counted_up_to_the_maximum(most, count, chance):
    policy = RetryPolicy(maximum_attempts=most)
    for error in (BOOM, RetryAfter(1)):
        assert (next_delay(policy, count, error, chance) is None) == (count >= most)


def test_the_delays_of_the_default_policy():
    delays = [next_delay(RetryPolicy(), count, BOOM, 0.5) for count in (1, 2, 3, 4, 5)]
    assert delays == [1.0, 2.0, 4.0, 8.0, None]


def test_the_fields_of_the_default_policy():
    policy = RetryPolicy()
    assert policy == RetryPolicy(1, 2, 100, 5, (), 0.1)
    assert is_final(policy, ValueError()) is False


def test_jitter_reaches_both_ends():
    policy = RetryPolicy(initial_interval=10, jitter=0.2)
    assert next_delay(policy, 1, BOOM, 0.0) == pytest.approx(8)
    assert next_delay(policy, 1, BOOM, 1.0) == pytest.approx(12)


def test_a_policy_without_limit_never_gives_up():
    policy = RetryPolicy(maximum_attempts=0, maximum_interval=7, jitter=0)
    assert next_delay(policy, 10**9, BOOM, 0.5) == 7


def test_a_power_beyond_any_float_is_the_maximum():
    policy = RetryPolicy(
        initial_interval=1, backoff_coefficient=1e300, maximum_interval=30, maximum_attempts=0, jitter=0
    )
    assert longest_delay(policy, 10**6) == 30
    assert next_delay(policy, 10**6, BOOM, 0.5) == 30


def test_no_interval_stays_none_however_often():
    policy = RetryPolicy(initial_interval=0, backoff_coefficient=1e300, maximum_attempts=0)
    assert next_delay(policy, 1, BOOM, 1.0) == 0
    assert next_delay(policy, 2, BOOM, 1.0) == 0
    assert next_delay(policy, 10**6, BOOM, 1.0) == 0


def test_one_attempt_is_not_repeated():
    assert next_delay(ONE_ATTEMPT, 1, BOOM, 0.5) is None
    assert next_delay(ONE_ATTEMPT, 1, RetryAfter(3), 0.5) is None


# -- what is not tried again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [NonRetryableError("no"), SerializationError("$: no"), StepInterruptedError("no")],
)
def test_some_errors_are_final_under_every_policy(error):
    policy = RetryPolicy(maximum_attempts=0)
    assert is_final(policy, error)
    assert next_delay(policy, 1, error, 0.5) is None


@pytest.mark.parametrize(
    "kind",
    [
        PaymentFailed,
        CardExpired,
        Exception,
        "PaymentFailed",
        "CardExpired",
        f"{__name__}.PaymentFailed",
        f"{__name__}.CardExpired",
        "Exception",
        "builtins.Exception",
    ],
)
def test_a_kind_is_found_by_type_or_by_name_and_so_are_its_subclasses(kind):
    assert is_final(RetryPolicy(non_retryable=[kind]), CardExpired("4242"))


@pytest.mark.parametrize("kind", [ValueError, "ValueError", "Payment", "elsewhere.PaymentFailed", "", "paymentfailed"])
def test_other_kinds_are_tried_again(kind):
    assert not is_final(RetryPolicy(non_retryable=[kind]), CardExpired("4242"))


@pytest.mark.parametrize("name", ["Refused", "PaymentFailed.Refused", f"{__name__}.PaymentFailed.Refused"])
def test_a_nested_class_is_found_by_each_of_its_names(name):
    assert is_final(RetryPolicy(non_retryable=[name]), PaymentFailed.Refused())


def test_any_of_several_kinds_will_do():
    policy = RetryPolicy(non_retryable=(KeyError, "OSError", ValueError))
    assert is_final(policy, FileNotFoundError(2, "gone"))
    assert is_final(policy, UnicodeError())
    assert not is_final(policy, TypeError())


def test_a_timeout_is_tried_again_unless_it_is_named():
    assert next_delay(RetryPolicy(), 1, StepTimeoutError("slow"), 0.5) == 1.0
    assert next_delay(RetryPolicy(non_retryable=[TimeoutError]), 1, StepTimeoutError("slow"), 0.5) is None


def test_retry_after_may_be_named_non_retryable():
    assert next_delay(RetryPolicy(non_retryable=[RetryAfter]), 1, RetryAfter(1), 0.5) is None


# -- bad options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["initial_interval", "maximum_interval", "backoff_coefficient", "jitter"])
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf])
def test_a_number_out_of_range_is_a_value_error_that_names_it(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be .*, not {value!r}$"):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("field", ["initial_interval", "maximum_interval", "backoff_coefficient", "jitter"])
@pytest.mark.parametrize("value", ["1", None, True, 1j, [1]])
def test_what_is_no_number_is_a_type_error_that_names_it(field, value):
    with pytest.raises(TypeError, match=f"^{field} is a number"):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("backoff_coefficient", 0.999, "1 or more, and finite"),
        ("jitter", 1.001, "from 0 to 1"),
        ("initial_interval", -1, "0 or more, and finite"),
    ],
)
def test_the_message_says_the_limits(field, value, limit):
    with pytest.raises(ValueError, match=limit):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("value", [1.0, "3", None, True])
def test_attempts_are_a_whole_number(value):
    with pytest.raises(TypeError, match="maximum_attempts is a whole number"):
        RetryPolicy(maximum_attempts=value)


def test_attempts_are_not_negative():
    with pytest.raises(ValueError, match="maximum_attempts is 0 .without limit. or more, not -1"):
        RetryPolicy(maximum_attempts=-1)


@pytest.mark.parametrize("kinds", ["ValueError", ValueError])
def test_a_single_kind_is_refused_with_the_way_to_write_it(kinds):
    with pytest.raises(TypeError, match=r"write non_retryable=\["):
        RetryPolicy(non_retryable=kinds)


@pytest.mark.parametrize("kind", [int, 3, None, ValueError("an instance")])
def test_what_is_no_exception_type_is_refused(kind):
    with pytest.raises(TypeError, match="exception types or their names"):
        RetryPolicy(non_retryable=[kind])


@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_retry_after_is_a_finite_time_from_now(value):
    with pytest.raises(ValueError, match="finite number of seconds that is not negative"):
        RetryAfter(value)


# -- a policy is a value ----------------------------------------------------------------------------------------------


def test_edges_of_the_ranges_are_allowed():
    RetryPolicy(0, 1, 0, 0, (), 0)
    RetryPolicy(0, 1, 0, 0, (), 1)


def test_whole_numbers_are_kept_as_floats():
    policy = RetryPolicy(initial_interval=1, maximum_interval=2, backoff_coefficient=3, jitter=1)
    assert [type(getattr(policy, name)) for name in ("initial_interval", "maximum_interval", "jitter")] == [float] * 3


def test_a_policy_does_not_change():
    policy = RetryPolicy()
    with pytest.raises(AttributeError, match="immutable; make a new one instead of setting 'jitter'"):
        policy.jitter = 1.0
    with pytest.raises(AttributeError, match="'jitter' cannot be deleted"):
        del policy.jitter
    with pytest.raises(AttributeError):
        policy.attempts = 3


def test_kinds_from_an_iterator_are_kept():
    policy = RetryPolicy(non_retryable=iter([KeyError, "ValueError"]))
    assert policy.non_retryable == (KeyError, "ValueError")
    assert is_final(policy, KeyError())
    assert is_final(policy, KeyError())


def test_equal_policies_are_equal():
    one, same = RetryPolicy(2.0, non_retryable=[KeyError]), RetryPolicy(2, non_retryable=(KeyError,))
    assert one == same
    assert hash(one) == hash(same)
    assert len({hash(RetryPolicy(float(n))) for n in range(1, 9)}) > 1
    assert one != RetryPolicy(2.5, non_retryable=[KeyError])
    assert one != (2.0,)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_policy_can_be_copied(again):
    policy = RetryPolicy(1.5, 2.5, 3.5, 4, [KeyError, "x"], 0.5)
    assert again(policy) == policy


def test_the_repr_is_the_call_that_makes_it():
    policy = RetryPolicy(1.5, 2.5, 3.5, 4, ["x"], 0.5)
    assert eval(repr(policy)) == policy
