"""The metadata at home: its tables, as numbered migrations.

Design: many proxies read it (they poll `cluster.catalogue_version`), replicas are rows of
`chunk_replicas`, transactions of ingest are rows of `ingests`. A published thing is changed by
bumping `catalogue_version` in the same transaction. Migrations only ever get added.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE cluster (name VARCHAR(64) PRIMARY KEY, value VARCHAR(1024) NOT NULL) ENGINE=InnoDB",
        "INSERT INTO cluster VALUES ('catalogue_version', '1')",
        "CREATE TABLE workers (worker_id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) NOT NULL UNIQUE,"
        " host VARCHAR(255) NOT NULL, port INT NOT NULL, http_port INT NOT NULL DEFAULT 0,"
        " state ENUM('active','draining','removed') NOT NULL DEFAULT 'active',"
        " added_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB",
        "CREATE TABLE `databases` (db_id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) NOT NULL UNIQUE,"
        " stripes INT NOT NULL, sub_stripes INT NOT NULL, overlap_deg DOUBLE NOT NULL,"
        " state ENUM('building','published','swapping') NOT NULL, version BIGINT NOT NULL DEFAULT 0,"
        " published_at TIMESTAMP NULL) ENGINE=InnoDB",
        "CREATE TABLE `tables` (table_id INT AUTO_INCREMENT PRIMARY KEY, db_id INT NOT NULL,"
        " name VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL, definition LONGTEXT NOT NULL,"
        " row_count BIGINT NOT NULL DEFAULT 0, UNIQUE (db_id, name)) ENGINE=InnoDB",
        "CREATE TABLE chunk_replicas (db_id INT NOT NULL, chunk_id INT NOT NULL, worker_id INT NOT NULL,"
        " state ENUM('loading','ok','stale') NOT NULL DEFAULT 'ok', PRIMARY KEY (db_id, chunk_id, worker_id))"
        " ENGINE=InnoDB",
        "CREATE TABLE chunk_rows (table_id INT NOT NULL, chunk_id INT NOT NULL, row_count BIGINT NOT NULL,"
        " overlap_rows BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (table_id, chunk_id)) ENGINE=InnoDB",
        "CREATE TABLE ingests (ingest_id BIGINT AUTO_INCREMENT PRIMARY KEY, db_name VARCHAR(64) NOT NULL,"
        " state ENUM('running','publishing','published','failed','abandoned') NOT NULL,"
        " started_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, finished_at TIMESTAMP NULL,"
        " owner VARCHAR(255) NOT NULL, detail LONGTEXT NOT NULL) ENGINE=InnoDB",
    ),
    (
        "ALTER TABLE `databases` MODIFY state ENUM('building','published','swapping','dropping') NOT NULL",
        "ALTER TABLE `databases` ADD COLUMN replicas INT NOT NULL DEFAULT 1",
        "UPDATE `databases` d SET replicas = (SELECT COALESCE(MAX(copies), 1) FROM (SELECT db_id, COUNT(*) AS copies"
        " FROM chunk_replicas GROUP BY db_id, chunk_id) r WHERE r.db_id = d.db_id)",
    ),
    (
        # What was asked: jobs (ASYNC), which their columns from `account` on are about, and the history.
        "CREATE TABLE queries (id BIGINT AUTO_INCREMENT PRIMARY KEY, user VARCHAR(128) NOT NULL,"
        " type ENUM('SYNC','ASYNC') NOT NULL,"
        " status ENUM('QUEUED','EXECUTING','COMPLETED','FAILED','ABORTED') NOT NULL,"
        " submitted DATETIME(3) NOT NULL, completed DATETIME(3) NULL, chunks INT NOT NULL DEFAULT 0,"
        " chunks_comp INT NOT NULL DEFAULT 0, bytes BIGINT NOT NULL DEFAULT 0, row_count BIGINT NOT NULL DEFAULT 0,"
        " query LONGTEXT NOT NULL, error TEXT NULL, account VARCHAR(255) NOT NULL DEFAULT '',"
        " settings LONGTEXT NULL, stored TINYINT NOT NULL DEFAULT 0, proxy VARCHAR(64) NOT NULL DEFAULT '',"
        " attempts INT NOT NULL DEFAULT 0, alive_at DATETIME(3) NULL, KEY (user), KEY (status), KEY (completed))"
        " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        "CREATE DATABASE IF NOT EXISTS skyshard_jobs CHARACTER SET utf8mb4",
        "CREATE OR REPLACE SQL SECURITY DEFINER VIEW skyshard_jobs.queries AS SELECT id AS ID, type AS TYPE,"
        " status AS STATUS, submitted AS SUBMITTED, completed AS COMPLETED, chunks AS CHUNKS,"
        " chunks_comp AS CHUNKS_COMP, bytes AS BYTES, row_count AS `ROWS`, query AS QUERY, error AS ERROR"
        " FROM queries WHERE user = LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE('@', REVERSE(USER())))",
        "GRANT SELECT ON skyshard_jobs.queries TO PUBLIC",
    ),
    (
        # Transactions: rows that were added to a published database, what they changed, and the files they came from.
        "ALTER TABLE ingests MODIFY state ENUM('running','publishing','published','failed','abandoned',"
        "'open','committing','committed','aborting','aborted','undoing','undone','consolidating','consolidated','dropped') NOT NULL",
        "ALTER TABLE ingests ADD COLUMN commit_no BIGINT NULL, ADD COLUMN committed_at TIMESTAMP NULL,"
        " ADD COLUMN seen BIGINT NOT NULL DEFAULT 0, ADD COLUMN fingerprint VARCHAR(64) NOT NULL DEFAULT '',"
        " ADD KEY (db_name, state)",
        "ALTER TABLE `databases` ADD COLUMN revision BIGINT NOT NULL DEFAULT 0",
        "CREATE TABLE ingest_tables (ingest_id BIGINT NOT NULL, name VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL,"
        " state ENUM('pending','loaded') NOT NULL DEFAULT 'pending', learned LONGTEXT NULL, before_it LONGTEXT NULL,"
        " PRIMARY KEY (ingest_id, name)) ENGINE=InnoDB",
        "CREATE TABLE ingest_chunks (ingest_id BIGINT NOT NULL, name VARCHAR(64) NOT NULL, chunk_id INT NOT NULL,"
        " row_count BIGINT NOT NULL, overlap_rows BIGINT NOT NULL, PRIMARY KEY (ingest_id, name, chunk_id))"
        " ENGINE=InnoDB",
        "CREATE TABLE ingest_replicas (ingest_id BIGINT NOT NULL, chunk_id INT NOT NULL, worker_id INT NOT NULL,"
        " PRIMARY KEY (ingest_id, chunk_id, worker_id)) ENGINE=InnoDB",
        "CREATE TABLE chunk_states (db_id INT NOT NULL, chunk_id INT NOT NULL, state_no BIGINT NOT NULL,"
        " PRIMARY KEY (db_id, chunk_id)) ENGINE=InnoDB",
        "CREATE TABLE ingest_files (ingest_id BIGINT NOT NULL, file_no INT NOT NULL, name VARCHAR(64) NOT NULL,"
        " url TEXT NOT NULL, role VARCHAR(16) NOT NULL DEFAULT '', size BIGINT NOT NULL, checksum CHAR(64) NOT NULL,"
        " state ENUM('pending','loading','loaded','failed') NOT NULL DEFAULT 'pending', reason TEXT NULL,"
        " attempts INT NOT NULL DEFAULT 0, PRIMARY KEY (ingest_id, file_no))"
        " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    ),
    (
        # What was loaded of some files of a table that has more: several processes load one table.
        "CREATE TABLE ingest_contributions (ingest_id BIGINT NOT NULL, file_no INT NOT NULL, name VARCHAR(64) NOT NULL,"
        " content LONGTEXT NOT NULL, PRIMARY KEY (ingest_id, file_no)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
        # What was planned in an earlier revision finds other rows under the names that it knows.
        "ALTER TABLE `databases` ADD COLUMN oldest BIGINT NOT NULL DEFAULT 0",
    ),
    (
        # What workers that were away have still to drop (`skyshard.ingest.debts.Debt` as JSON).
        "CREATE TABLE worker_debts (debt_id BIGINT AUTO_INCREMENT PRIMARY KEY, worker_id INT NOT NULL,"
        " db_name VARCHAR(64) NOT NULL, debt LONGTEXT NOT NULL, KEY (db_name, worker_id))"
        " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    ),
    (
        # Whether the keys of a transaction that is being consolidated are in the database's own director indexes.
        "ALTER TABLE ingests ADD COLUMN merged TINYINT NOT NULL DEFAULT 0",
        "UPDATE ingests i SET merged = 1 WHERE i.state = 'consolidating' AND NOT EXISTS (SELECT 1 FROM chunk_states s"
        " JOIN `databases` d ON d.db_id = s.db_id WHERE d.name = i.db_name AND s.state_no < i.seen)",
    ),
)
"""Statements of each version, run in the database `skyshard_meta`. `tables.definition` is a
`catalog.model.Table` as JSON (msgspec)."""

VERSION_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (version INT PRIMARY KEY,"
    " applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB"
)
