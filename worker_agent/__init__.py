"""The agent beside each worker's MariaDB: runs fragments, schedules scans, loads data."""
