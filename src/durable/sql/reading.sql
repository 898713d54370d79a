-- Statements of the command line, which only reads. None of them walks through all runs of a journal.

-- name: newest
-- Keys of runs within a range of keys, newest first.
SELECT seq FROM durable_run WHERE seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_workflow
-- The same of one workflow.
SELECT seq FROM durable_run INDEXED BY durable_run_workflow
WHERE workflow = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_status
-- The same of one stored status, of runs without a timer: the index has them in this order.
SELECT seq FROM durable_run INDEXED BY durable_run_status
WHERE status = ? AND wake_at IS NULL AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_timed_of_status
-- The same of runs with a timer, which the index has in the order of the timers: it sorts their keys alone.
SELECT seq FROM durable_run INDEXED BY durable_run_status
WHERE status = ? AND wake_at IS NOT NULL AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: size_of_workflow
-- How many runs a workflow has; counts no further than a limit.
SELECT count(*) FROM (SELECT 1 FROM durable_run WHERE workflow = ? LIMIT ?);

-- name: size_of_status
-- How many runs have a stored status; counts no further than a limit.
SELECT count(*) FROM (SELECT 1 FROM durable_run WHERE status = ? LIMIT ?);

-- name: ends
-- The smallest and the largest key of all runs.
SELECT (SELECT min(seq) FROM durable_run), (SELECT max(seq) FROM durable_run);

-- name: created_at
-- The first run at or after a key: its key, and when it was created.
SELECT seq, created_at FROM durable_run WHERE seq >= ? ORDER BY seq LIMIT 1;

-- name: neighbours
-- The ids right before and right after an id: how many letters tell it from all others.
SELECT (SELECT max(id) FROM durable_run WHERE id < ?1), (SELECT min(id) FROM durable_run WHERE id > ?1);

-- name: tally
-- Completed steps of a run, and operations under way; looks at no more of them than a limit.
SELECT count(CASE WHEN status = 'completed' AND kind IN ('step', 'child') THEN 1 END),
    count(CASE WHEN status IN ('running', 'retrying') THEN 1 END)
FROM (SELECT kind, status FROM durable_step WHERE run = ? LIMIT ?);

-- name: latest_of_status
-- The operation of a run that began last among those of two statuses.
SELECT * FROM durable_step WHERE run = ? AND status IN (?, ?) ORDER BY started_at DESC LIMIT 1;

-- name: owner
-- One process that owned the journal.
SELECT epoch, pid, started_at, closed_at FROM durable_owner WHERE epoch = ?;

-- name: attempt
-- One attempt that did not complete its step.
SELECT * FROM durable_attempt WHERE run = ? AND branch = ? AND position = ? AND attempt = ?;
