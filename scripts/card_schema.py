"""Write docs/reference/model-card.schema.json from the settings themselves."""

from __future__ import annotations

import json
from pathlib import Path

from diffseglung import durable
from diffseglung.model.card import schema

TARGET = Path(__file__).parents[1] / "docs" / "reference" / "model-card.schema.json"

if __name__ == "__main__":
    durable.write_text(TARGET, json.dumps(schema(), indent=2) + "\n")
