"""Base class of all settings: frozen dataclasses whose fields carry their range and help.  `config` defines them."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from diffseglung.platform.errors import ConfigError


def setting(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A dataclass field that also carries its help text and its closed range or its choices."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


_LISTS = {
    name: {"type": "array", "items": {"type": kind}}
    for name, kind in (("int", "integer"), ("float", "number"), ("str", "string"))
}
_TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bool": ("true or false", {"type": "boolean"}),
    "int": ("a whole number", {"type": "integer"}),
    "float": ("a number", {"type": "number"}),
    "str": ("a text", {"type": "string"}),
    "tuple[int, ...]": ("a list of whole numbers", _LISTS["int"]),
    "tuple[int, int, int]": ("three whole numbers", {**_LISTS["int"], "minItems": 3, "maxItems": 3}),
    "tuple[float, ...]": ("a list of numbers", _LISTS["float"]),
    "tuple[str, ...]": ("a list of texts", _LISTS["str"]),
}
"""Type of a field -> its name in messages, and its JSON Schema."""


def _accepts(kind: str, value: Any) -> bool:
    """Whether a value from JSON has the type of a field; whole numbers are numbers, true and false are not."""
    if kind.startswith("tuple["):
        inner = kind.removeprefix("tuple[").split(",")[0]
        fits = isinstance(value, list | tuple) and all(_accepts(inner, item) for item in value)
        return fits and (kind.endswith("...]") or len(value) == kind.count(",") + 1)
    wanted = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}[kind]
    if not isinstance(value, wanted) or (kind != "bool" and isinstance(value, bool)):
        return False
    return not isinstance(value, float) or math.isfinite(value)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base class of settings: checks types and ranges, and converts to JSON and back without loss.

    RENAMED: former name -> name; both are accepted, as options and in files.

    >>> from diffseglung.platform.config import PatchConfig
    >>> PatchConfig(spacing_mm=2.0).to_dict()["shape"]
    (32, 96, 96)
    >>> PatchConfig(min_lung_fraction=1.5)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    diffseglung.platform.errors.ConfigError: min_lung_fraction is 1.5, outside [0.0, 1.0] (try: ...)
    >>> PatchConfig.from_dict({"shapes": [32, 64, 64]})
    Traceback (most recent call last):
    diffseglung.platform.errors.ConfigError: PatchConfig has no setting 'shapes' (try: did you mean shape?)
    """

    RENAMED: ClassVar[dict[str, str]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            if meta.get("choices") and value not in meta["choices"]:
                raise ConfigError(f"{field.name} is {value!r}", remedy=f"choose one of {', '.join(meta['choices'])}")
            low, high = meta.get("low"), meta.get("high")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, bool | str) or number is None:
                    continue
                if (low is not None and not number >= low) or (high is not None and not number <= high):
                    raise ConfigError(
                        f"{field.name} is {number}, outside [{low}, {high}]",
                        remedy=f"choose a value in range; {field.name} is {meta['help']}",
                    )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`.  Raises ConfigError for a wrong type or an unknown name, with the closest known one."""
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__} is {values!r:.80}", remedy="give settings by name")
        values = {cls.RENAMED.get(name, name): value for name, value in values.items()}
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values.keys() - known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(sorted(known))}"
            raise ConfigError(f"{cls.__name__} has no setting {name!r}", remedy=remedy)
        for field in dataclasses.fields(cls):
            if field.name in values and not _accepts(str(field.type), values[field.name]):
                raise ConfigError(
                    f"{field.name} is {values[field.name]!r}, not {_TYPES[str(field.type)][0]}",
                    remedy=f"give {_TYPES[str(field.type)][0]}; {field.name} is {field.metadata['help']}",
                )
        return cls(**values)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON Schema of `to_dict`; missing settings take their defaults."""
        described = {}
        for field in dataclasses.fields(cls):
            meta, entry = field.metadata, dict(_TYPES[str(field.type)][1])
            bounds = {"minimum": meta["low"], "maximum": meta["high"], "enum": list(meta["choices"]) or None}
            bounds = {name: value for name, value in bounds.items() if value is not None}
            inner = {"items": {**entry["items"], **bounds}} if "items" in entry else bounds
            described[field.name] = {**entry, **inner, "description": meta["help"]}
        return {"type": "object", "properties": described, "additionalProperties": False}
