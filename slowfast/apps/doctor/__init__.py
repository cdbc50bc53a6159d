"""Check of a machine before a run: what it has, what is wrong with it, and how fast and how exactly it computes."""
