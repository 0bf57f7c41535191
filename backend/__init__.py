"""The raw MariaDB client that the proxy and the agents share."""
