"""Pictures of results for a paper: training curves, classes, confusion, steps, length, cost, precision and recall."""
