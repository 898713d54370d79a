"""Decorators keep the signature: checked by pyright and mypy, both strict, and never run.

Lines that must not type-check say which error they expect, once for each checker; an expected error
that does not come is an error.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, assert_type

import durable

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Order:
    id: str
    items: list[str]


# Bare, and with options.


@durable.step
def price(order: Order, discount: float = 0.0, *, currency: str = "EUR") -> int:
    """A docstring."""
    return len(order.items) * len(currency) * int(discount)


@durable.step(retry=durable.RetryPolicy(maximum_attempts=3), timeout=10.0)
def pay(order: Order, amount: int) -> str | None:
    return order.id * amount or None


@durable.step()
def nothing() -> None: ...


@durable.step
def several(*parts: str, **more: int) -> tuple[int, int]:
    return len(parts), len(more)


@durable.workflow
def buy(order: Order) -> str | None:
    assert_type(price(order), int)
    assert_type(price(order, 0.1, currency="GBP"), int)
    assert_type(nothing(), None)
    assert_type(several("a", "b", x=1), tuple[int, int])
    return pay(order, amount=price(order))


@durable.workflow(id="order-{order.id}")
def buy_by_id(order: Order) -> str | None:
    return buy(order)


def order_id(order: Order) -> str:
    return f"order-{order.id}"


@durable.workflow(id=order_id, name="buy")
def buy_by_function(order: Order) -> str | None:
    return buy(order)


@durable.workflow(id=lambda order: f"order-{order.id}")
def buy_by_lambda(order: Order) -> str | None:
    return buy(order)


@durable.workflow(id=lambda order, *, again=False: f"order-{order.id}-{again}", timeout=5.0)
def buy_by_longer_lambda(order: Order, *, again: bool = False) -> int:
    return len(order.id) + again


def keyword_id(*, a: int, b: int) -> str:
    return f"{a}-{b}"


def long_id(a: int, b: int, c: int, d: int, e: int, f: int) -> str:
    return f"{a + b + c + d + e + f}"


@durable.workflow(id=keyword_id)
def by_keyword(*, a: int, b: int) -> int:
    return a + b


@durable.workflow(id=long_id)
def of_six(a: int, b: int, c: int, d: int, e: int, f: int) -> int:
    return a + b + c + d + e + f


def calls(order: Order) -> None:
    assert_type(buy(order), str | None)
    assert_type(buy(order=order), str | None)
    assert_type(buy_by_id(order), str | None)
    assert_type(buy_by_function(order), str | None)
    assert_type(buy_by_lambda(order), str | None)
    assert_type(buy_by_longer_lambda(order, again=True), int)
    assert_type(by_keyword(a=1, b=2), int)
    assert_type(of_six(1, 2, 3, 4, 5, 6), int)
    function: Callable[[Order], str | None] = buy
    function(order)
    callback: Callable[[Order, int], str | None] = pay
    callback(order, 1)
    assert_type(price.__name__, str)


def wrong_calls(order: Order) -> None:
    price("42")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    price()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    price(order, currency=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    price(order, colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    pay(order, "5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nothing(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    several(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    buy(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    buy(order, 42)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    buy_by_id(order.id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    buy_by_lambda(order.id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    durable.workflow(id=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


# Methods, static methods, class methods and closures.


class Shop:
    name = "shop"

    @durable.step
    def stock(self, item: str) -> int:
        return len(self.name + item)

    @durable.step(timeout=1.0)
    def reserve(self, item: str, count: int = 1) -> bool:
        return self.stock(item) >= count

    @staticmethod
    @durable.step
    def tax(amount: int) -> float:
        return amount * 0.2

    @staticmethod
    @durable.step(retry=None)
    def toll(amount: int) -> float:
        return amount * 0.1

    @durable.step
    async def ship(self, item: str) -> str:
        return item

    @durable.workflow
    def sell(self, item: str) -> float:
        return Shop.tax(self.stock(item)) + Shop.toll(1)

    @durable.workflow(id=lambda self, item: f"{self.name}-{item}")
    def keep(self, item: str) -> float:
        return self.sell(item)

    @durable.workflow(id="send-{item}")
    async def send(self, item: str) -> str:
        return await self.ship(item)


async def methods(shop: Shop) -> None:
    assert_type(shop.stock("tea"), int)
    assert_type(Shop.stock(shop, "tea"), int)
    assert_type(shop.reserve("tea", count=2), bool)
    assert_type(Shop.tax(5), float)
    assert_type(Shop.toll(5), float)
    assert_type(await shop.ship("tea"), str)
    assert_type(shop.sell("tea"), float)
    assert_type(shop.sell.start("tea"), durable.Run[float])
    assert_type(shop.keep("tea"), float)
    assert_type(shop.sell.with_options(id="x")("tea"), float)
    assert_type(shop.stock.with_options(timeout=1.0)("tea"), int)
    assert_type(await shop.send("tea"), str)
    assert_type(shop.send.start("tea"), durable.Run[str])


async def wrong_methods(shop: Shop) -> None:
    shop.stock(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.stock()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Shop.tax("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.sell.start(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await shop.ship(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def make_step(factor: int) -> Callable[[int], int]:
    @durable.step
    def scale(number: int) -> int:
        return number * factor

    assert_type(scale(5), int)
    scale("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return scale


# Async.


@durable.step
async def load(url: str) -> bytes:
    return url.encode()


@durable.step(timeout=5.0)
async def save(data: bytes, *, name: str) -> int:
    return len(data) + len(name)


@durable.workflow
async def mirror(url: str) -> int:
    assert_type(price(Order("1", [])), int)
    return await save(await load(url), name=url)


@durable.workflow(id="mirror-{url}")
async def mirror_by_id(url: str) -> int:
    return await mirror(url)


async def async_calls() -> None:
    assert_type(await load("x"), bytes)
    assert_type(await save(b"", name="x"), int)
    assert_type(await mirror("x"), int)
    assert_type(await mirror_by_id("x"), int)
    assert_type(await mirror_by_id.with_options(id="y")("x"), int)
    awaitable: Callable[[str], Awaitable[int]] = mirror
    assert_type(await awaitable("x"), int)
    load(5)  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    await save(b"", name=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await mirror(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    not_awaited: int = mirror("x")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(not_awaited)


# Below a decorator of its own, which may know no more than that it is to be awaited.


def logged(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    return function


@durable.step
@logged
async def load_logged(url: str) -> bytes:
    return await load(url)


@durable.workflow
@logged
async def mirror_logged(url: str) -> int:
    return len(await load_logged(url))


async def decorated_calls() -> None:
    assert_type(await load_logged("x"), bytes)
    assert_type(await mirror_logged("x"), int)
    assert_type(mirror_logged.start("x"), durable.Run[int])
    assert_type(mirror_logged.start_many(["x"]), list[durable.Run[int]])
    mirror_logged.start(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


# Generic functions stay generic.


@durable.step
def first(numbers: list[int]) -> int:
    return numbers[0]


@durable.step
def takes_callback(function: Callable[[int], str], number: int) -> str:
    return function(number)


def with_callback() -> None:
    assert_type(takes_callback(str, 5), str)
    takes_callback(len, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
