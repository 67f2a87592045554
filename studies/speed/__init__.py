"""How long and how much memory each stage takes, beside a peer and beside what the machine allows."""
