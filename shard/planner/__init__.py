"""SQL analysis and splitting, one pass a file; the only importer of sqlglot."""
