"""AVA: boxes at key frames."""
