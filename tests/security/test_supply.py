"""What is installed is what was pinned: lock file, bill of materials and constraints agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", text, re.MULTILINE)}


LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_every_locked_package_has_hashes_and_the_tested_version() -> None:
    tested = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    locked = pinned(LOCK)
    assert {"torch", "numpy", "pydicom", "highdicom", "distributed", "cryptography", "tensorboard"} <= locked.keys()
    assert {name: locked[name] for name in locked.keys() & tested.keys()} == {
        name: tested[name] for name in locked.keys() & tested.keys()
    }
    for block in re.split(r"\n(?=\S)", LOCK):
        if "==" in block:
            assert block.count("--hash=sha256:") >= 1, block.splitlines()[0]


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    bill = json.loads((ROOT / "docs" / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert {normal(part["name"]): part["version"] for part in bill["components"]} == pinned(LOCK)
