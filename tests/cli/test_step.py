"""`durable step`, and `--utc` of all commands, on journals of real programs."""

import re

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def shown(folder, *arguments):
    return folder.on_a_terminal("step", *arguments, NO_COLOR="1", width=140).splitlines()


def test_each_attempt_has_its_traceback(shop):
    lines = shown(shop, "order-3", "2")
    assert lines[0] == "✗ failed  fulfill"
    assert "run       order-3  (buy, failed)" in lines
    assert {"number    2", "place     position 1"} <= set(lines)
    assert "module    shop" in lines
    attempts = [line for line in lines if line.startswith("attempt")]
    assert [line.split()[1] for line in attempts] == ["1", "2", "3"]
    assert lines.count("error     Closed: the warehouse is closed") == 3
    text = "\n".join(lines)
    assert len(re.findall(r'File ".*shop.py", line \d+, in fulfill', text)) == 3
    assert "_replay.py" not in text


def test_a_completed_step_has_its_result_and_what_failed_before(shop):
    lines = shown(shop, "order-2", "fulfill")
    assert lines[0] == "✓ completed  fulfill"
    assert any(line.startswith('input     order = {"id": 2,') for line in lines)
    assert lines.count("error     Closed: the warehouse is closed") == 2
    assert lines[-1] == 'result    "shipped tea"'


def test_where_the_process_died_and_where_it_waits(shop, live):
    assert shown(shop, "order-5", "hang")[0] == "↯ interrupted  hang"
    assert shown(shop, "order-5", "hang")[-1] == "died      the process ended in it"
    assert shown(live, "order-5", "hang")[-1] == "now       it is running"
    assert re.fullmatch(r"next      retry in .*", shown(shop, "order-4", "3")[-1])


def test_places_in_branches(shop):
    [step] = shop.objects("step", "pages", "/page:0 1")
    assert (step["branch"], step["position"], step["input"]) == ("/page:0", 1, {"url": "a/more"})
    assert shop.objects("step", "pages", "/page:0", "1") == [step]
    assert step["number"] == 4
    assert shop.objects("step", "pages", "4") == [step]
    assert shown(shop, "pages", "now")[3:5] == ["number    1", "place     position 0"]


def test_what_is_not_there_or_not_clear(shop):
    done = shop.durable("step", "order-1", "7")
    assert done.returncode == 3
    assert "has no step '7': durable show order-1 lists them" in done.stderr
    done = shop.durable("step", "pages", "fetch")
    assert done.returncode == 3
    assert re.search(r"has 3 steps called 'fetch': say which, by its number: 2, 3, 4", done.stderr)
    assert shop.durable("step", "order-1").returncode == 2
    assert shop.durable("step", "nobody", "0").returncode == 3


def test_for_programs(shop):
    [step] = shop.objects("step", "order-3", "2")
    assert step["workflow"] == "buy"
    assert step["idempotency_key"] == step["idempotency_key"].lower()
    assert len(step["idempotency_key"]) >= 32
    assert all("in fulfill" in attempt["error"]["traceback"] for attempt in step["attempts"])
    assert "in fulfill" in step["error"]["traceback"]
    piped = shop.durable("step", "order-2", "fulfill").stdout.splitlines()
    assert piped[:2] == ["step\tfulfill", "status\tcompleted"]
    assert piped[-1] == 'result\t"shipped tea"'


def test_the_key_is_the_one_that_the_step_sees(folder):
    printed = folder.run(
        """
        @durable.step
        def key() -> None: print(durable.info().idempotency_key)
        @durable.workflow(id="keyed")
        def keyed() -> None: key()
        keyed()
        """
    )
    assert folder.objects("step", "keyed", "1")[0]["idempotency_key"] == printed.strip()


def test_exact_times(shop):
    run = shop.objects("show", "order-4")[0]
    rows = {row[2]: row for row in shop.rows("--utc")}
    assert rows["order-4"][7] == run["created_at"]
    assert re.fullmatch(rf"process {shop.pid} died, retry due at {TIMES.pattern}", rows["order-4"][8])
    head = shop.on_a_terminal("ls", "--utc", NO_COLOR="1", width=160).splitlines()[0]
    assert head.split()[-2:] == ["CREATED", "WHY"]
    shown = shop.on_a_terminal("show", "order-4", "--utc", NO_COLOR="1", width=140)
    assert f"created   {run['created_at']}" in shown
    assert re.search(rf"retry at {TIMES.pattern}", shown)
    assert " ago" not in shown
    assert " ago" not in shop.on_a_terminal("step", "order-2", "2", "--utc", NO_COLOR="1", width=140)
