"""All about sharding, without IO: geometry, catalogue model, planner, wire formats."""
