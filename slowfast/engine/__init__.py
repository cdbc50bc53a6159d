"""Training and testing loops, and what they are made of."""
