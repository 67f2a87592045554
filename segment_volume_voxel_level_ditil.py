"""Same as `diffseglung segment`; kept at the root so that the documented command works as written."""

from diffseglung.cli import run_script

if __name__ == "__main__":
    raise SystemExit(run_script("segment"))
