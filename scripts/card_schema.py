"""Write docs/reference/model-card.schema.json from the settings."""

from __future__ import annotations

import json
from pathlib import Path

from diffseglung.method.card import schema
from diffseglung.platform import atomic_files

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "model-card.schema.json"

if __name__ == "__main__":
    atomic_files.write_text(TARGET, json.dumps(schema(), indent=2) + "\n")
