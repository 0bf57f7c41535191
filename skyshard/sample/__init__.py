"""The bundled sample catalogue and the synthetic generator."""
