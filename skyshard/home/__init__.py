"""What skyshard sets up on the home server."""
