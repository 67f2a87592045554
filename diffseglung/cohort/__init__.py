"""Every scan of a folder, on many processes or machines; one table and one page of what came of them."""
