"""Writes contacts.csv: 3,000 rows, a few of them bad, the same at each run."""

import csv
import random
from pathlib import Path

FIRST = ("Ada", "Alan", "Barbara", "Edsger", "Frances", "Grace", "Hedy", "Katherine", "Margaret")
LAST = ("Allen", "Hamilton", "Hopper", "Johnson", "Knuth", "Lamarr", "Liskov", "Lovelace", "Turing")
BAD = {
    97: ("no-at-sign.example.org", "Nobody", "2021-02-03"),
    512: ("feb.30@example.org", "Leap Day", "2023-02-30"),
    1333: ("", "", ""),
    1334: ("short@example.org",),
    2048: ("nameless@example.org", "", "2022-08-09"),
    2999: ("american@example.org", "Date Writer", "12/31/2024"),
}


def rows() -> list[tuple[str, ...]]:
    chance = random.Random(7)
    found: list[tuple[str, ...]] = []
    for number in range(1, 3001):
        first, last = chance.choice(FIRST), chance.choice(LAST)
        year, month, day = chance.randint(2015, 2024), chance.randint(1, 12), chance.randint(1, 28)
        email = f"{first}.{last}.{number}@example.org".lower()
        found.append(BAD.get(number, (email, f"{first} {last}", f"{year}-{month:02}-{day:02}")))
    return found


if __name__ == "__main__":
    with Path(__file__).with_name("contacts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("email", "name", "since"))
        writer.writerows(rows())
