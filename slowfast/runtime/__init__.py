"""Processes and machines: launch, distributed, device, seeds, logging, signals, locks."""
