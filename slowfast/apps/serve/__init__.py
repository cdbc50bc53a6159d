"""A page in the browser that shows what a model sees; `tools/serve.py` serves it."""
