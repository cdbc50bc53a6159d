"""Programs built on the framework, each in a folder or file of its own; `tools/` holds their commands."""
