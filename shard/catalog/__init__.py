"""What a sharded catalogue is: databases, tables, names, placement."""
