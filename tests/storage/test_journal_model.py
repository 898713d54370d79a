"""Any sequence of what a transaction may do, through any number of owners, leaves what a dict would hold."""

import itertools
import os
import tempfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable import _reading
from durable._journal import Journal
from durable._model import FINISHED

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
optional_texts = st.none() | texts
times = st.floats(0, 4e9)
optional_times = st.none() | times
ids = st.sampled_from([f"run-{letter}" for letter in "abcde"])
places = st.tuples(st.integers(1, 2), st.sampled_from(["", "/a:0"]), st.integers(0, 1))  # few, so that they meet
small = st.integers(0, 3)

run_changes = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["queued", "running", "waiting", "completed", "failed", "cancelled", "blocked"]),
        "output": optional_texts,
        "error": optional_texts,
        "finished_at": optional_times,
        "wake_at": optional_times,
        "claim": st.none() | st.sampled_from(["c1", "c2"]),
        "epoch": small,
        "crashes": small,
        "progress": small,
        "trusting": st.integers(0, 1),
    }
)
step_columns = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["step", "now"]),
        "name": texts,
        "module": texts,
        "status": st.sampled_from(["running", "retrying", "completed", "failed"]),
        "attempt": small,
        "failures": small,
        "input": optional_texts,
        "output": optional_texts,
        "error": optional_texts,
        "started_at": times,
        "finished_at": optional_times,
        "retry_at": optional_times,
        "turn": st.none() | small,
    }
)
operations = st.one_of(
    st.tuples(st.just("add_run"), ids, texts, run_changes),
    st.tuples(st.just("put_run"), st.integers(0, 9), run_changes),
    st.tuples(st.just("put_step"), places, step_columns),
    st.tuples(st.just("put_attempt"), places, small, times, optional_times, optional_texts),
    st.tuples(st.just("drop_step"), places),
    st.just(("fail",)),
)
batches = st.lists(st.tuples(st.lists(operations, max_size=5), st.booleans()), max_size=8)


class Model:
    """What the journal should hold, in dicts."""

    def __init__(self):
        self.runs = {}
        self.steps = {}
        self.attempts = {}

    def copy(self):
        other = Model()
        other.runs, other.steps, other.attempts = dict(self.runs), dict(self.steps), dict(self.attempts)
        return other


class Undo(Exception):
    pass


def carry_out(operation, transaction, model, make):
    """Do one operation to both."""
    kind, *values = operation
    if kind == "add_run":
        run_id, text, changes = values
        if any(run.id == run_id for run in model.runs.values()):
            assert transaction.run_of_id(run_id) is not None
            return
        written = transaction.add_run(make.run(id=run_id, workflow=text, **changes))
        assert written.seq == max(model.runs, default=0) + 1
        model.runs[written.seq] = written
    elif kind == "put_run":
        number, changes = values
        if model.runs:
            seq = sorted(model.runs)[number % len(model.runs)]
            model.runs[seq] = model.runs[seq]._replace(**changes)
            transaction.put_run(model.runs[seq])
            assert transaction.run_of_id(model.runs[seq].id) == model.runs[seq]
    elif kind == "put_step":
        (run, branch, position), columns = values
        step = make.step(run=run, branch=branch, position=position, **columns)
        transaction.put(make.row(step))
        model.steps[step[:3]] = step
    elif kind == "put_attempt":
        (run, branch, position), number, started_at, finished_at, error = values
        attempt = make.attempt(
            run=run,
            branch=branch,
            position=position,
            attempt=number,
            started_at=started_at,
            finished_at=finished_at,
            error=error,
        )
        transaction.put_attempt(attempt)
        model.attempts[attempt[:4]] = attempt
    elif kind == "drop_step":
        place = values[0]
        transaction.drop_step(model.steps.get(place) or make.step(run=place[0], branch=place[1], position=place[2]))
        model.steps.pop(place, None)
        for key in [key for key in model.attempts if key[:3] == place]:
            del model.attempts[key]
    else:
        raise Undo


def compare(journal, model):
    newest_first = [model.runs[seq] for seq in sorted(model.runs, reverse=True)]
    assert journal.runs() == newest_first
    assert journal.runs(limit=2) == newest_first[:2]
    for run in newest_first:
        assert journal.run(run.id) == run
        assert journal.run_of_seq(run.seq) == run
        assert journal.runs_by_prefix(run.id, 9) == [run]
    for statuses in (("running",), tuple(FINISHED)):
        assert journal.runs(statuses=statuses) == [run for run in newest_first if run.status in statuses]
    assert journal.runs(workflow="x") == [run for run in newest_first if run.workflow == "x"]
    old = [run for run in newest_first if run.crashes]
    assert journal.runs(wanted=lambda run: run.crashes > 0, limit=1) == old[:1]
    waiting = sorted(
        (run for run in newest_first if run.status == "waiting"),
        key=lambda run: (run.wake_at is not None, run.wake_at or 0, run.seq),
    )
    assert journal.runs_of_status("waiting") == waiting
    for seq in range(1, 5):
        assert journal.steps(seq) == [model.steps[key] for key in sorted(model.steps) if key[0] == seq]
        assert journal.attempts(seq) == [model.attempts[key] for key in sorted(model.attempts) if key[0] == seq]
    missing = {"run-a", "run-b", "run-c", "run-d", "run-e"} - {run.id for run in newest_first}
    assert all(journal.run(run_id) is None for run_id in missing)


def transact(journal, todo, full, model, make):
    """Do a batch; what it became where it is undone, is what there was."""
    after = model

    def work(transaction):
        nonlocal after
        after = model.copy()
        for operation in todo:
            carry_out(operation, transaction, after, make)
        for claim, epoch, last, end in itertools.product(("c1", "c2"), (1, 2), (0, 1), (3, 9)):
            left = (run for seq, run in sorted(after.runs.items()) if run.claim == claim and last < seq < end)
            expected = next((run for run in left if run.epoch < epoch), None)
            assert transaction.oldest_left(claim, epoch, after=last, before=end) == expected
        for seq in range(1, 5):
            mine = [after.steps[key] for key in sorted(after.steps) if key[0] == seq]
            assert transaction.steps(seq) == mine
            assert transaction.outcomes(seq) == sum(step.turn is not None for step in mine)

    try:
        journal.write(work, full=full)
    except Undo:
        return model
    return after


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(owners=st.lists(batches, min_size=1, max_size=3), durability=st.booleans())
def test_a_journal_holds_what_a_dict_would(make, owners, durability):
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "journal.db")
        for number, batches_of_owner in enumerate(owners):
            journal = Journal(path, full=durability)
            journal.own(os.getpid(), 1.0)
            try:
                assert journal.epoch == number + 1
                for todo, full in batches_of_owner:
                    model = transact(journal, todo, full and number == 0, model, make)
                compare(journal, model)
            finally:
                journal.close(2.0)
            reader = Journal(path)
            try:
                compare(reader, model)
            finally:
                reader.close(0.0)


def test_an_operation_is_dropped_with_its_attempts_and_no_other(make, open_journal):
    journal = open_journal()
    others = [(1, "", 1), (1, "/a:0", 0), (2, "", 0)]

    def write(transaction):
        for run, branch, position in [(1, "", 0), *others]:
            place = {"run": run, "branch": branch, "position": position}
            transaction.put(make.row(make.step(**place)))
            for number in (1, 2):
                transaction.put_attempt(make.attempt(attempt=number, **place))

    journal.write(write)
    journal.write(lambda transaction: transaction.drop_step(make.step()))
    assert [step[:3] for run in (1, 2) for step in journal.steps(run)] == others
    assert [each[:4] for run in (1, 2) for each in journal.attempts(run)] == [
        (*place, n) for place in others for n in (1, 2)
    ]


def test_runs_are_listed_page_by_page_and_no_further_than_asked(open_journal, make, monkeypatch):
    journal = open_journal()
    monkeypatch.setattr(_reading, "_PAGE", 3)
    runs = [
        make.run(
            id=f"run-{number}",
            workflow=("order", "refund")[number % 2],
            status=("waiting", "running", "completed")[number % 3],
            wake_at=1000.0 - number if number % 3 == 0 and number % 4 else None,
        )
        for number in range(40)
    ]
    written = journal.write(lambda transaction: [transaction.add_run(run) for run in runs])
    newest = written[::-1]
    statuses = ((), ("waiting",), ("running",), ("waiting", "completed"), ("running", "waiting", "completed"))
    for wanted, workflow in itertools.product(statuses, (None, "order", "none")):
        expected = [
            run
            for run in newest
            if (not wanted or run.status in wanted) and (workflow is None or run.workflow == workflow)
        ]
        assert journal.runs(statuses=wanted, workflow=workflow) == expected
        assert journal.runs(statuses=wanted, workflow=workflow, limit=5) == expected[:5]
    asked = []
    found = journal.runs(statuses=("waiting",), limit=2, wanted=lambda run: asked.append(run) or run.seq < 35)
    assert [run.seq for run in found] == [34, 31]
    assert [run.seq for run in asked] == [40, 37, 34, 31]
