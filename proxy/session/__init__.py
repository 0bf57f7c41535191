"""Client connections: protocol, authentication relay, prepared statements."""
