"""What several suites share: servers, clusters, catalogues."""
