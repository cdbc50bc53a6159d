"""Layers: small modules and functions that know no config."""
