"""Local clusters: processes on one machine."""
