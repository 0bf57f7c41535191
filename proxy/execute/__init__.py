"""Running a plan: dispatch core, agent connections, byte budget."""
