-- Every statement of the journal, by name. `-- name: x` opens one; the comment below it says what it is for.

-- name: put_step
-- The whole record of an operation, over the one that was there.
INSERT OR REPLACE INTO durable_step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_attempt
-- An attempt that did not complete its step.
INSERT OR REPLACE INTO durable_attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_run
-- A new run; fails when the id is taken.
INSERT INTO durable_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_run
-- The whole record of a run that exists. Key, id, workflow, module, input, created_at and parent never change.
UPDATE durable_run
SET status = ?, output = ?, error = ?, finished_at = ?, wake_at = ?, claim = ?, epoch = ?, crashes = ?,
    progress = ?, trusting = ?, deadline = ?, checksum = ?
WHERE seq = ?;

-- name: next_seq
-- The key of the next new run.
SELECT coalesce(max(seq), 0) + 1 FROM durable_run;

-- name: run_by_id
SELECT * FROM durable_run WHERE id = ?;

-- name: run_by_seq
SELECT * FROM durable_run WHERE seq = ?;

-- name: runs_by_prefix
-- Runs whose id starts with a prefix: from the prefix up to, but without, its successor.
SELECT * FROM durable_run WHERE id >= ? AND id < ? ORDER BY id LIMIT ?;

-- name: newest
-- Runs before a key, newest first.
SELECT * FROM durable_run WHERE seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_workflow
-- The same of one workflow.
SELECT * FROM durable_run INDEXED BY durable_run_workflow WHERE workflow = ? AND seq < ? ORDER BY seq DESC LIMIT ?;

-- name: newest_of_status
-- The same of one stored status, and of one workflow where one is given. The index has runs without a timer in this
-- order, and those with one in the order of the timers: of these it sorts the keys alone.
SELECT * FROM durable_run WHERE seq IN (
    SELECT seq FROM (
        SELECT seq FROM durable_run INDEXED BY durable_run_status
        WHERE status = ?1 AND wake_at IS NULL AND (?2 IS NULL OR workflow = ?2) AND seq < ?3
        ORDER BY seq DESC LIMIT ?4
    )
    UNION ALL
    SELECT seq FROM (
        SELECT seq FROM durable_run INDEXED BY durable_run_status
        WHERE status = ?1 AND wake_at IS NOT NULL AND (?2 IS NULL OR workflow = ?2) AND seq < ?3
        ORDER BY seq DESC LIMIT ?4
    )
) ORDER BY seq DESC LIMIT ?4;

-- name: left_before
-- No run that earlier owners left, and that a plain call without an id may go on with, has this key or a later one.
SELECT CASE
    WHEN EXISTS (SELECT 1 FROM durable_run INDEXED BY durable_run_claim WHERE claim IS NOT NULL)
    THEN (SELECT max(seq) + 1 FROM durable_run) ELSE 0 END;

-- name: oldest_left
-- The oldest unfinished run between two keys which a plain call without an id may go on with: an owner before an epoch
-- has left it.
SELECT * FROM durable_run INDEXED BY durable_run_claim
WHERE claim = ? AND epoch < ? AND seq > ? AND seq < ? ORDER BY seq LIMIT 1;

-- name: runs_of_status
-- Runs of one stored status, oldest first.
SELECT * FROM durable_run WHERE status = ? ORDER BY wake_at, seq;

-- name: due_runs
-- Keys and ids of waiting runs whose time has come, in the order of their times, after a time and a key; none of some
-- workflows, a JSON list.
SELECT seq, id, wake_at FROM durable_run INDEXED BY durable_run_status
WHERE status = 'waiting' AND wake_at <= ? AND (wake_at, seq) > (?, ?)
    AND workflow NOT IN (SELECT value FROM json_each(?))
ORDER BY wake_at, seq LIMIT ?;

-- name: next_wake
-- When the next waiting run is due, after a time.
SELECT min(wake_at) FROM durable_run WHERE status = 'waiting' AND wake_at > ?;

-- name: runs_that_go_on
-- Keys of the runs that execute, were interrupted, or wait for a time.
SELECT seq FROM durable_run INDEXED BY durable_run_status
WHERE status IN ('running', 'waiting') AND (status = 'running' OR wake_at IS NOT NULL);

-- name: event
-- What a run showed last under a name.
SELECT * FROM durable_step WHERE run = ? AND kind = 'event' AND name = ? ORDER BY finished_at DESC, position DESC LIMIT 1;

-- name: children
-- Runs that a run has called, oldest first.
SELECT * FROM durable_run WHERE parent = ? ORDER BY seq;

-- name: steps
-- All operations of a run, in the order of their positions.
SELECT * FROM durable_step WHERE run = ? ORDER BY branch, position;

-- name: attempts
-- The attempts of a run that did not complete their step.
SELECT * FROM durable_attempt WHERE run = ? ORDER BY branch, position, attempt;

-- name: outcomes
-- How many outcomes a run has.
SELECT count(turn) FROM durable_step WHERE run = ?;

-- name: last_message
-- The key of the newest message that there ever was.
SELECT coalesce((SELECT value FROM durable_meta WHERE key = 'last_message'), 0);

-- name: put_last_message
INSERT OR REPLACE INTO durable_meta VALUES ('last_message', ?);

-- name: put_message
INSERT OR REPLACE INTO durable_message VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: new_messages
-- What arrived after a message, in the order of arrival.
SELECT * FROM durable_message WHERE seq > ? ORDER BY seq;

-- name: drop_message
DELETE FROM durable_message WHERE seq = ?;

-- name: drop_messages_of_kind
DELETE FROM durable_message WHERE run = ? AND kind = ?;

-- name: messages
-- What was asked of a run and not read yet, in the order of arrival.
SELECT * FROM durable_message WHERE run = ? AND kind = ? AND name = ? ORDER BY seq;

-- name: next_message
-- The first of these after a key.
SELECT * FROM durable_message WHERE run = ? AND kind = ? AND name = ? AND seq > ? ORDER BY seq LIMIT 1;

-- name: drop_messages
DELETE FROM durable_message WHERE run = ?;

-- name: drop_requests
-- All but its signals: a run that failed reads these when it is retried.
DELETE FROM durable_message WHERE run = ? AND kind <> 'signal';

-- name: drop_step
DELETE FROM durable_step WHERE run = ? AND branch = ? AND position = ?;

-- name: drop_attempts
DELETE FROM durable_attempt WHERE run = ? AND branch = ? AND position = ?;

-- name: open_owner
-- This process owns the journal from now on.
INSERT INTO durable_owner VALUES (?, ?, ?, ?, ?);

-- name: close_owner
-- This process has stopped cleanly: what it left running was not killed.
UPDATE durable_owner SET closed_at = ?, checksum = ? WHERE epoch = ?;

-- name: owners
-- The processes that have owned the journal, newest first.
SELECT * FROM durable_owner ORDER BY epoch DESC LIMIT ?;

-- name: owner
SELECT * FROM durable_owner WHERE epoch = ?;


-- name: ended
-- Of runs of a status that ended, in the order of their creation: key, when created and ended, and who called it.
SELECT seq, created_at, finished_at, parent FROM durable_run INDEXED BY durable_run_status
WHERE status = ? AND wake_at IS NULL AND seq > ? ORDER BY seq LIMIT ?;

-- name: delete_run
DELETE FROM durable_run WHERE seq = ?;

-- name: delete_steps
DELETE FROM durable_step WHERE run = ?;

-- name: delete_attempts
DELETE FROM durable_attempt WHERE run = ?;
