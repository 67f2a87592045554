"""`python -m diffseglung` is the `diffseglung` command."""

from diffseglung.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
