"""Parallel steps in a sync workflow: checked by pyright and mypy, never run."""

from typing import assert_type

import durable


@durable.step
def double(number: int) -> int:
    return number * 2


@durable.workflow
def parallel(numbers: list[int]) -> list[int]:
    future = double.submit(5)
    assert_type(future, durable.StepFuture[int])
    assert_type(future.result(), int)
    assert_type(double.map(numbers), list[int])
    assert_type(double.map(range(5), concurrency=2), list[int])
    double.submit("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    double.map(["5"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    return double.map(numbers)


def failures_among_the_results(numbers: list[int]) -> None:
    assert_type(double.map(numbers, return_exceptions=True), list[int | BaseException])
    assert_type(double.map(numbers, None, True), list[int | BaseException])
