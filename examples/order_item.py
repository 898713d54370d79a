"""The order program: init, fulfill, archive. Kill it when you like, and run the same line again."""

import csv
import logging
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import durable

logging.basicConfig(filename="orders.log", format="%(message)s", level="INFO")


class PaymentFailed(Exception): ...


@dataclass(frozen=True)
class Order:
    id: str
    item: str
    card: str


RETRY = durable.RetryPolicy(  # 1 s after the first failure, then 2, 4, 8, 10, 10, ...
    initial_interval=1.0,
    backoff_coefficient=2.0,
    maximum_interval=10.0,
    maximum_attempts=100,
    non_retryable=[PaymentFailed],
)


@durable.step(retry=RETRY, timeout=10.0)
def init_order(order: Order) -> Order:
    logging.info("init_order %s", order.id)
    if order.card != "valid":
        raise PaymentFailed(f"the card is {order.card}")
    return replace(order, card="charged")


@durable.step(retry=RETRY, timeout=10.0)
def fulfill_order(order: Order) -> str:
    logging.info("fulfill_order %s", order.id)
    time.sleep(2)  # the warehouse takes its time
    return f"shipped {order.item}"


@durable.step(retry=RETRY, timeout=10.0)
def archive_order(order: Order, status: str) -> None:
    logging.info("archive_order %s", order.id)
    with closing(sqlite3.connect("archive.db")) as db, db:  # the shop's own database
        db.execute("CREATE TABLE IF NOT EXISTS orders (id PRIMARY KEY, status)")
        db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (order.id, status))


@durable.workflow(id="order-{order.id}")
def order_item(order: Order) -> str:
    order = init_order(order)
    status = fulfill_order(order)
    archive_order(order, status)
    return status


def main(ids: list[str]) -> None:
    durable.resume()  # go on with whatever a crash left
    text = Path(__file__).with_name("data").joinpath("orders.csv").read_text()
    orders = {row["id"]: Order(**row) for row in csv.DictReader(text.splitlines())}
    for id in ids:
        print(f"order {id}: {order_item(orders[id])}")


if __name__ == "__main__":
    main(sys.argv[1:])

# `python examples/order_item.py 42` prints
#     order 42: shipped a difference engine
