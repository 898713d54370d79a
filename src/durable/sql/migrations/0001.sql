-- Format 1. One row a run, one row an operation of a run, one row an attempt that did not complete.
-- Texts in input, output and error are JSON. Times are seconds since the Unix epoch.
-- checksum is the CRC-32 of the other columns (see _records.py); a row whose checksum is off is never used.

CREATE TABLE durable_meta (
    key TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE durable_owner (
    epoch INTEGER PRIMARY KEY,  -- counts the processes that have owned this journal
    pid INTEGER NOT NULL,
    started_at REAL NOT NULL,
    closed_at REAL,             -- NULL while it lives, and for ever when it died
    checksum INTEGER NOT NULL
);

CREATE TABLE durable_run (
    seq INTEGER PRIMARY KEY,    -- order of creation
    id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    module TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status IN ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'blocked')
    ),
    input TEXT NOT NULL,
    output TEXT,
    error TEXT,
    created_at REAL NOT NULL,
    finished_at REAL,
    wake_at REAL,               -- when a waiting run is due
    claim TEXT,                 -- fingerprint by which a plain call without an id finds the run
    parent INTEGER,             -- seq of the run that called this one
    epoch INTEGER NOT NULL,     -- the owner that last set it going
    crashes INTEGER NOT NULL,   -- deaths of the process in it since progress last grew
    progress INTEGER NOT NULL,  -- outcomes in the journal when it was last set going
    trusting INTEGER NOT NULL,  -- 1: the journal's word is taken for the inputs of steps
    deadline REAL,              -- when the run's timeout passes
    checksum INTEGER NOT NULL
);

-- Unfinished runs by status, due timers in order, and the newest of a status (the rowid ends every entry).
CREATE INDEX durable_run_status ON durable_run (status, wake_at);
-- Small: only runs that are unfinished or failed, and whose id the library chose.
CREATE INDEX durable_run_claim ON durable_run (claim) WHERE claim IS NOT NULL;
-- The newest runs of a workflow, of one status or of each, and how many there are.
CREATE INDEX durable_run_workflow ON durable_run (workflow, status);
CREATE INDEX durable_run_parent ON durable_run (parent) WHERE parent IS NOT NULL;

CREATE TABLE durable_step (
    run INTEGER NOT NULL,
    branch TEXT NOT NULL,       -- '' is the workflow's own task
    position INTEGER NOT NULL,  -- counted at call time within the branch
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    module TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    input TEXT,
    output TEXT,
    error TEXT,
    started_at REAL NOT NULL,
    finished_at REAL,
    retry_at REAL,              -- when the next attempt is due
    turn INTEGER,               -- place of the outcome among the outcomes of the run
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, branch, position)
) WITHOUT ROWID;

-- What others ask of a run that has not ended: kept until it has read it, and dropped with its end.
CREATE TABLE durable_message (
    seq INTEGER PRIMARY KEY,    -- order of arrival; none is given twice, so that the owner sees what is new
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,         -- 'cancel', 'signal', or 'begin' where another process queued the run
    name TEXT NOT NULL,
    value TEXT,
    error TEXT,
    sent_at REAL NOT NULL,
    checksum INTEGER NOT NULL
);

CREATE INDEX durable_message_run ON durable_message (run, kind, name);

CREATE TABLE durable_attempt (
    run INTEGER NOT NULL,
    branch TEXT NOT NULL,
    position INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started_at REAL NOT NULL,
    finished_at REAL,
    error TEXT,                 -- NULL where the process died in the attempt
    checksum INTEGER NOT NULL,
    PRIMARY KEY (run, branch, position, attempt)
) WITHOUT ROWID;
