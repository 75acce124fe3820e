"""Values and decisions: no I/O, no threads, no clock, and no import of ours but this package."""
