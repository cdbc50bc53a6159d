"""Features of videos."""
