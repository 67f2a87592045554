"""Label every scan of a folder, on many processes or machines; the results in one table and on one page."""
