"""Markov operators: layers of clip models that read the memory of earlier steps."""
