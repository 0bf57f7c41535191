"""The home server seen from the proxy: session links, definitions, metadata, director index."""
