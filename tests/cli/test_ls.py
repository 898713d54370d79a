"""`durable ls` on journals of real programs."""

import re

import pytest

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def by_id(rows):
    return {row[2]: row for row in rows}


def test_lists_each_run_of_a_killed_owner(shop):
    rows = by_id(shop.rows())
    assert {id: row[0] for id, row in rows.items()} == {
        "moody": "blocked",
        "order-1": "completed",
        "order-2": "completed",
        "order-3": "failed",
        "order-4": "interrupted",
        "order-5": "interrupted",
        "pages": "interrupted",
    }
    assert rows["order-1"][:6] == ["completed", "buy", "order-1", "2", "", ""]
    assert rows["order-3"][3:6] == ["1", "fulfill", "3"]
    assert rows["order-3"][8] == "Closed: the warehouse is closed"
    assert rows["order-4"][3:6] == ["2", "call_back", "1"]
    assert re.fullmatch(rf"process {shop.pid} died, retry due in (1h 00m|59m \d\ds)", rows["order-4"][8])
    assert rows["order-5"][3:6] == ["2", "hang", "1"]
    assert rows["order-5"][8] == f"process {shop.pid} died"
    assert rows["pages"][3:5] == ["2", "fetch"]
    assert rows["moody"][8].startswith("at position 0 step 'init' was called with other inputs")


def test_lists_the_runs_of_a_living_owner(live):
    rows = by_id(live.rows())
    assert {row[0] for id, row in rows.items() if id in {"order-4", "order-5", "pages"}} == {"running"}
    assert re.fullmatch(r"retry in (1h 00m|59m \d\ds) after TimeoutError: nobody answers", rows["order-4"][8])
    assert rows["order-5"][8] == ""


def test_newest_first(shop):
    assert shop.ids()[-2:] == ["order-1", "moody"]
    assert shop.ids("--workflow", "buy")[-3:] == ["order-3", "order-2", "order-1"]
    assert shop.ids("--status", "completed", "failed", "blocked") == ["order-3", "order-2", "order-1", "moody"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--status", "failed"], {"order-3"}),
        (["--status", "completed", "failed"], {"order-1", "order-2", "order-3"}),
        (["--status", "completed", "--status", "failed"], {"order-1", "order-2", "order-3"}),
        (["--status", "interrupted"], {"order-4", "order-5", "pages"}),
        (["--status", "running"], set()),
        (["--status", "interrupted", "--workflow", "buy"], {"order-4", "order-5"}),
        (["--status", "blocked"], {"moody"}),
        (["--workflow", "pages"], {"pages"}),
        (["--workflow", "no such"], set()),
        (["--since", "1h", "--status", "blocked"], {"moody"}),
        (["--before", "1h"], set()),
        (["--since", "0s"], set()),
        (["--before", "0s", "--workflow", "pages"], {"pages"}),
    ],
)
def test_filters(shop, options, expected):
    assert set(shop.ids(*options)) == expected


def test_running_and_interrupted_are_told_apart(live):
    assert set(live.ids("--status", "running")) == {"order-4", "order-5", "pages"}
    assert live.ids("--status", "interrupted") == []


MANY = """
@durable.workflow(id=lambda x: f"many-{{x}}")
def many(x: int) -> int:
    return x

for x in range({count}):
    many(x)
"""


def test_the_limit_says_what_it_cut(folder):
    folder.run(MANY.format(count=60))
    done = folder.durable("ls")
    assert len(done.stdout.splitlines()) == 50
    assert done.stdout.splitlines()[0].split("\t")[2] == "many-59"
    assert done.stderr == "durable: … and 10 more: --limit 0 shows all\n"
    assert len(folder.ids("--limit", "0")) == 60
    assert folder.durable("ls", "--limit", "60").stderr == ""
    assert folder.durable("ls", "--limit", "0").stderr == ""
    assert folder.ids("--limit", "2") == ["many-59", "many-58"]
    on_terminal = folder.on_a_terminal("ls", "--limit", "1", NO_COLOR="1").splitlines()
    assert on_terminal[-1] == "… and 59 more: --limit 0 shows all"
    as_json = folder.durable("ls", "--json", "--limit", "1")
    assert len(as_json.stdout.splitlines()) == 1
    assert as_json.stderr == "durable: … and 59 more: --limit 0 shows all\n"


AGED = """
import os, time
from durable._journal import Journal
from durable._model import RunRecord

journal = Journal("durable.db")
now = time.time()
journal.own(os.getpid(), now)

def add(transaction):
    for minutes in (600, 300, 90, 45, 10, 3, 30, 1):  # the clock was set back before the last but one
        made = now - minutes * 60
        transaction.add_run(RunRecord(
            0, f"{minutes}m", "w", "m", "completed", "{}", "1", None, made, made, None, None, None, 1, 0, 0, 0
        ))

journal.write(add)
journal.close(now)
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "2m"], ["1m"]),
        (["--since", "1h"], ["1m", "30m", "3m", "10m", "45m"]),
        (["--since", "1.6h"], ["1m", "30m", "3m", "10m", "45m", "90m"]),
        (["--since", "1d"], ["1m", "30m", "3m", "10m", "45m", "90m", "300m", "600m"]),
        (["--before", "1h"], ["90m", "300m", "600m"]),
        (["--before", "5h"], ["300m", "600m"]),
        (["--before", "30m", "--since", "2h"], ["45m", "90m"]),
        (["--before", "1w"], []),
        (["--since", "6h", "--limit", "2"], ["1m", "30m"]),
    ],
)
def test_ages_divide_the_runs(folder, options, expected):
    folder.run("", prelude=AGED)
    done = folder.durable("ls", *options)
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == expected


def test_json_has_stable_keys(shop):
    runs = {run["id"]: run for run in shop.objects("ls")}
    assert list(runs) == shop.ids()
    for run in runs.values():
        assert run.keys() >= {"id", "workflow", "status", "created_at", "finished_at", "error", "input", "output"}
        assert TIMES.fullmatch(run["created_at"])
        assert run["finished_at"] is None or TIMES.fullmatch(run["finished_at"])
    assert runs["order-1"]["status"] == "completed"
    assert runs["order-1"]["input"] == {"order": {"id": 1, "item": "a book"}}
    assert runs["order-1"]["output"] == "shipped a book"
    assert runs["order-1"]["error"] is None
    assert runs["order-1"]["steps_done"] == 2
    assert runs["order-3"]["error"] == {
        "type": "Closed", "module": "shop", "message": "the warehouse is closed\nuntil Monday",
    }  # fmt: skip
    assert runs["order-5"]["status"] == "interrupted"
    assert runs["order-5"]["finished_at"] is None
    assert (runs["order-5"]["step"], runs["order-5"]["attempt"]) == ("hang", 1)


def test_a_terminal_gets_a_table(shop):
    lines = shop.on_a_terminal("ls", NO_COLOR="1").splitlines()
    assert lines[0].split() == ["STATUS", "WORKFLOW", "ID", "DONE", "STEP", "ELAPSED", "AGE", "WHY"]
    assert any(re.match(r"✓ completed    buy       order-1 +2 ", line) for line in lines)
    assert any(line.startswith("↯ interrupted  buy       order-5") for line in lines)
    assert any(line.startswith("✗ failed       buy       order-3") for line in lines)
    assert any(line.startswith("⊠ blocked      moody     moody") for line in lines)
    assert any(re.search(r"  1  fulfill #3 +\S+s +\S+[sm]  Closed: the warehouse is closed$", line) for line in lines)
    narrow = shop.on_a_terminal("ls", NO_COLOR="1", width=80)
    assert re.search(r"order-5 +2 +hang +\S+[sm]  process \d+ died$", narrow, re.MULTILINE)
    columns = {line.index("order-") for line in lines[1:] if "order-" in line}
    assert columns == {lines[0].index("ID")}


def test_a_pipe_gets_whole_fields(shop):
    for row in shop.rows():
        assert len(row) == 9
        assert "…" not in "".join(row)
    assert max(len(row[8]) for row in shop.rows()) > 200


def test_long_ids_are_cut_on_a_terminal_to_what_tells_them_apart(folder):
    folder.run(
        """
        @durable.workflow
        def made(x: int) -> int: return x
        @durable.workflow(id="import-of-all-the-contacts-of-{x}")
        def named(x: str) -> str: return x
        for x in range(40): made(x)
        for x in ("january", "june", "july"): named(x)
        """
    )
    ids = folder.ids("--workflow", "made")
    shown = [
        line.split()[3] for line in folder.on_a_terminal("ls", "--workflow", "made", NO_COLOR="1").splitlines()[1:]
    ]
    assert [id.startswith(short) for id, short in zip(ids, shown, strict=True)] == [True] * 40
    assert {len(short) for short in shown} == {8}
    assert len(set(shown)) == 40
    lines = folder.on_a_terminal("ls", "--workflow", "named", NO_COLOR="1").splitlines()[1:]
    assert [line.split()[3] for line in lines] == [
        "import-of-all-the-contacts-of-jul", "import-of-all-the-contacts-of-jun", "import-of-all-the-contacts-of-ja",
    ]  # fmt: skip
    for short in ("import-of-all-the-contacts-of-jul", shown[7]):
        assert folder.durable("show", short).returncode == 0


def test_nothing_to_list_is_said(folder):
    folder.run("")
    assert folder.durable("ls").returncode == 1  # nothing was executed, so there is no file
    folder.run("buy({'id': 1, 'item': 'x'})")
    done = folder.durable("ls", "--status", "failed")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "durable: no run in durable.db is like that\n")
    assert folder.on_a_terminal("ls", "--status", "failed", NO_COLOR="1") == "no run in durable.db is like that\n"
