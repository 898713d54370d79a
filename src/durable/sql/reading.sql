-- Statements of the command line, which only reads. None of them walks through all runs of a journal.

-- name: newest
-- Keys of runs within a range of keys, newest first.
SELECT seq FROM durable_run WHERE seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_workflow
-- The same of one workflow and stored status: the index has them in this order.
SELECT seq FROM durable_run INDEXED BY durable_run_workflow
WHERE workflow = ? AND status = ? AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_status
-- The same of one stored status, of runs without a timer: the index has them in this order.
SELECT seq FROM durable_run INDEXED BY durable_run_status
WHERE status = ? AND wake_at IS NULL AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_timed_of_status
-- The same of runs with a timer, which the index has in the order of the timers: it sorts their keys alone.
SELECT seq FROM durable_run INDEXED BY durable_run_status
WHERE status = ? AND wake_at IS NOT NULL AND seq >= ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: matching
-- Of these keys, a JSON list, those of runs that the living owner executes (1) or does not (0), with a text in what people
-- look for. All but the keys may be NULL. The text is a pattern, as it is and as it stands in JSON.
SELECT seq FROM json_each(?1) AS keys CROSS JOIN durable_run AS run ON seq = keys.value
WHERE (?3 IS NULL OR (epoch IS ?2) = ?3)
    AND (?4 IS NULL OR run.id LIKE ?4 ESCAPE '\' OR workflow LIKE ?4 ESCAPE '\' OR input LIKE ?5 ESCAPE '\'
        OR output LIKE ?5 ESCAPE '\' OR error LIKE ?5 ESCAPE '\')
ORDER BY seq DESC;

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

-- name: some_children
-- Id and status of the runs that a run has called or started, oldest first, no more than a limit.
SELECT id, status FROM durable_run WHERE parent = ? ORDER BY seq LIMIT ?;

-- name: owner
-- One process that owned the journal.
SELECT epoch, pid, started_at, closed_at FROM durable_owner WHERE epoch = ?;

-- name: attempt
-- One attempt that did not complete its step.
SELECT * FROM durable_attempt WHERE run = ? AND branch = ? AND position = ? AND attempt = ?;

-- name: unread
-- What was sent to a run that is there, and that it has not read yet, in the order of arrival.
SELECT * FROM durable_message WHERE run = ? AND kind IN ('signal', 'cancel') ORDER BY seq;

-- name: counts
-- How many runs each workflow has of each stored status, of the runs within a range of keys: a walk through the index.
SELECT workflow, status, count(*) FROM durable_run INDEXED BY durable_run_workflow
WHERE seq >= ? AND seq < ? GROUP BY workflow, status;

-- name: counts_of_live
-- How many running runs of each workflow the living owner executes, within a range of keys.
SELECT workflow, count(*) FROM durable_run INDEXED BY durable_run_status
WHERE status = 'running' AND epoch = ? AND seq >= ? AND seq < ? GROUP BY workflow;

-- name: some_steps
-- The operations of a run, no more than a limit. What a fork took over has happened before it was created, in another.
SELECT * FROM durable_step WHERE run = ?1 AND started_at >= (SELECT created_at FROM durable_run WHERE seq = ?1) LIMIT ?2;

-- name: latest_attempts
-- Attempts that did not complete their step, those of the newest runs first; with the name, the status and the last
-- attempt of the step.
SELECT attempts.*, steps.name, steps.status, steps.attempt FROM (
    SELECT * FROM durable_attempt WHERE run >= ? AND run < ?
    ORDER BY run DESC, branch DESC, position DESC, attempt DESC LIMIT ?
) AS attempts LEFT JOIN durable_step AS steps USING (run, branch, position);

-- name: run_page
-- Runs by key, from a key on.
SELECT * FROM durable_run WHERE seq > ? ORDER BY seq LIMIT ?;

-- name: step_page
-- Operations by key, from a key on.
SELECT * FROM durable_step WHERE (run, branch, position) > (?, ?, ?) ORDER BY run, branch, position LIMIT ?;

-- name: attempt_page
-- Attempts by key, from a key on.
SELECT * FROM durable_attempt WHERE (run, branch, position, attempt) > (?, ?, ?, ?)
ORDER BY run, branch, position, attempt LIMIT ?;

-- name: message_page
-- Messages by key, from a key on.
SELECT * FROM durable_message WHERE seq > ? ORDER BY seq LIMIT ?;

-- name: owner_page
-- Owners by key, from a key on.
SELECT * FROM durable_owner WHERE epoch > ? ORDER BY epoch LIMIT ?;

-- name: overdue
-- How many waiting runs are due at a time.
SELECT count(*) FROM durable_run WHERE status = 'waiting' AND wake_at <= ?;
