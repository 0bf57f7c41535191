"""The metadata at home: its tables, as numbered migrations.

Design: many proxies read it (they poll `cluster.catalogue_version`), replicas are rows of
`chunk_replicas`, transactions of ingest will be rows of `ingests`. A published thing is changed by
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
)
"""Statements of each version, run in the database `skyshard_meta`. `tables.definition` is a
`catalog.model.Table` as JSON (msgspec)."""

VERSION_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_migrations (version INT PRIMARY KEY,"
    " applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB"
)
