"""report.html: a result to look at, in one file that needs no network."""
