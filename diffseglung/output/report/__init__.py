"""report.html: a result to view in one file that needs no network."""
