"""The MySQL front end: sessions, home server links, dispatch to agents, merging."""
