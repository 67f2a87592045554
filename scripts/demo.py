"""`make demo`: segment a real chest CT and a phantom with known lesions by the shipped model.

python scripts/demo.py [--out out/demo]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from diffseglung.cli import main as diffseglung

ROOT = Path(__file__).parents[1]
REAL = ROOT / "demo" / "lidc_1011.nii.gz"
SEED = "4"
LESIONS = ("emphysema_centrilobular", "ggo_nodular", "fibrosis_honeycomb", "consolidation_organising")
NAMES = ("healthy", "emphysema", "ggo", "fibrosis", "consolidation")


def run(*words: object) -> None:
    """Print and run one command; ends the demo if it fails."""
    print(f"\n$ diffseglung {' '.join(shown(word) for word in words)}", flush=True)
    code = diffseglung([str(word) for word in words])
    if code:
        raise SystemExit(code)


def shown(word: object) -> str:
    """A path below the repository without the repository's own."""
    return str(word.relative_to(ROOT)) if isinstance(word, Path) and word.is_relative_to(ROOT) else str(word)


def main() -> None:
    """Segment both, score the phantom, list what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder to write into")
    out = parser.parse_args().out.resolve()
    begin = time.perf_counter()
    run("segment", "-i", REAL, "-o", out / "lidc_1011")
    run("phantom", "-o", out / "phantoms", "--split", "test", "--seed", SEED, "--models", *LESIONS)
    phantom = next((out / "phantoms").glob(f"*{int(SEED):04d}"))
    run("segment", "-i", phantom / "ct.nii.gz", "-o", out / "phantom")
    truth, label_map = phantom / "truth.nii.gz", out / "phantom" / "label_map.nii.gz"
    run("evaluate", "--prediction", label_map, "--truth", truth, "--no-surfaces", "-o", out / "phantom_scores.json")
    summary(out)
    print(f"\ndone in {time.perf_counter() - begin:.0f} s; look at {shown(out / 'lidc_1011' / 'report.html')}")


def summary(out: Path) -> None:
    """Shares of the lungs, and every file with what it is."""
    print("\nshare of the lungs, %        healthy  emphysema  ggo  fibrosis  consolidation")
    for name, title in (("lidc_1011", "real CT, near normal"), ("phantom", "phantom with lesions")):
        statistics: dict[str, Any] = json.loads((out / name / "statistics.json").read_text(encoding="utf-8"))
        shares = [statistics[key]["fraction_of_lung"] for key in NAMES]
        print(f"  {title:24}" + "".join(f"{100 * share:9.1f}" for share in shares))
    print("\nwritten:")
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        print(f"  {shown(path):52} {path.stat().st_size / 1e3:10,.0f} kB")


if __name__ == "__main__":
    main()
