"""Video decoding behind one reader interface."""
