"""Tell what of a project that was written for PySlowFast works here."""
