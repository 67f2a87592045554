"""MkDocs hooks that add generated content to the pages in docs/; it is not committed, so it cannot go stale.

- `<!-- generated: NAME -->` on a page becomes what NAME of `GENERATED` makes from the code: commands, settings, labels.
- CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages.
- Links from docs/ to files elsewhere in the repository lead to copies of them inside the site.
"""

from __future__ import annotations

import argparse
import dataclasses
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import diffseglung
from diffseglung.cli import COMMANDS, build_parser
from diffseglung.cohort.table import COLUMNS
from diffseglung.labels import ALL
from diffseglung.platform import config as settings

ROOT = Path(__file__).parents[1]
DOCS = "docs"
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""File of the repository -> the page of the site that it becomes."""
HOME = {"README.md": "index.md"}
COPIES = "files"
"""Folder of the site for other files that pages link to."""
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
MARK = re.compile(r"<!-- generated: ([a-z ]+) -->")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files that lie outside docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=LINK.sub(_from_root, text)))
    outside = {
        path
        for file in files.documentation_pages()
        for _, target, _ in LINK.findall(file.content_string)
        if (path := _outside(file.src_uri, target)) and path not in PAGES | HOME
    }
    for path in sorted(outside):
        if not (ROOT / path).is_file():
            raise PluginError(f"a page links to {path}, which is not in the repository")
        files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Insert generated content, and rewrite links that leave docs/."""
    here = page.file.src_uri
    markdown = MARK.sub(lambda match: GENERATED[match[1]](), markdown)
    return LINK.sub(lambda match: match[1] + _inside(here, match[2]) + match[3], markdown)


def _from_root(match: re.Match[str]) -> str:
    """A link of a page that lies beside docs/, as a page in docs/ has it."""
    target = match[2]
    inside = re.match(rf"[a-z]+:|{DOCS}/", target)
    moved = PAGES.get(target) or (target.removeprefix(f"{DOCS}/") if inside else f"../{target}")
    return match[1] + moved + match[3]


def _outside(page: str, target: str) -> str | None:
    """Path in the repository of a link that leaves docs/; None for every other link."""
    if re.match(r"[a-z]+:", target):
        return None
    path = posixpath.normpath(posixpath.join(DOCS, posixpath.dirname(page), target))
    return None if path.startswith(f"{DOCS}/") else path


def _inside(page: str, target: str) -> str:
    """The same link inside the site."""
    path = _outside(page, target)
    if path is None:
        return target
    place = (PAGES | HOME).get(path, f"{COPIES}/{path}")
    return posixpath.relpath(place, posixpath.dirname(page) or ".")


def commands() -> str:
    """Every command: what it does, and all its options."""
    return "\n\n".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    parser = build_parser(name, prog=f"diffseglung {name}")
    parts = [f"## {name}", _description(parser.description or "")]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if not actions:
            continue
        title = (group.title or "options").capitalize()
        parts.append(f"**{title}**\n\n| option | value | meaning |\n|---|---|---|\n" + _rows(parser, actions))
    return "\n\n".join(parts)


def _description(text: str) -> str:
    """A module's docstring as Markdown: lines indented by two spaces are commands."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        shown = all(line.startswith("  ") for line in lines)
        blocks.append("```bash\n" + "\n".join(line[2:] for line in lines) + "\n```" if shown else _escaped(block))
    return "\n\n".join(blocks)


def _rows(parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> str:
    formatter = parser._get_formatter()
    rows = []
    for action in actions:
        help = formatter._expand_help(action) if action.help else ""
        required = " (required)" if action.required and action.option_strings else ""
        rows.append(f"| {_names(action)}{required} | {_value(action)} | {_escaped(help)} |")
    return "\n".join(rows)


def _names(action: argparse.Action) -> str:
    """Spellings of an option, without the underscore variant of a hyphenated one."""
    names = [name for name in action.option_strings if "_" not in name or name.replace("_", "-") == name]
    names = names or action.option_strings
    return ", ".join(f"`{name}`" for name in names) if action.option_strings else f"`{action.dest}`"


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return ", ".join(f"`{choice}`" for choice in action.choices)
    if not action.option_strings:
        return "path"
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return f"`{metavar}`" + (" ..." if action.nargs in ("+", "*") or isinstance(action.nargs, int) else "")


def setting_tables() -> str:
    """Every settings class: its fields, their ranges and defaults, and the commands that take them as options."""
    classes = [
        kind
        for kind in vars(settings).values()
        if isinstance(kind, type) and issubclass(kind, settings.Config) and kind is not settings.Config
    ]
    takers = {kind: _takers(kind) for kind in classes}
    parts = []
    for kind in classes:
        options = ", ".join(f"[`{name}`](cli.md#{name})" for name in takers[kind])
        where = f" Options of {options}." if options else " From Python only."
        table = "| setting | default | allowed | meaning |\n|---|---|---|---|\n" + "\n".join(_fields(kind))
        parts.append(f"## {kind.__name__}\n\n{_first_line(kind)}{where}\n\n{table}")
    sizes = "\n".join(f"- `{name}`: {_differences(size)}" for name, size in settings.UNETS.items())
    return "\n\n".join(parts) + f"\n\n## Named network sizes\n\n`train --size NAME` takes one of:\n\n{sizes}"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _takers(kind: type) -> list[str]:
    title = f"{kind.__name__.removesuffix('Config').lower()} settings"
    return [name for name in COMMANDS if any(group.title == title for group in build_parser(name)._action_groups)]


def _fields(kind: type) -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        meta = field.metadata
        default = _plain(field.default)
        yield f"| `{field.name}` | {default} | {_allowed(meta, hints[field.name])} | {_escaped(meta['help'])} |"


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "`" + " ".join(map(str, value)) + "`" if value else "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _allowed(meta: Any, hint: Any) -> str:
    if meta["choices"]:
        return ", ".join(f"`{choice}`" for choice in meta["choices"])
    low, high = meta["low"], meta["high"]
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    if high is not None:
        return f"at most {high:g}"
    return {bool: "`True`, `False`", float: "a number", int: "a whole number"}.get(hint, "names")


def _differences(size: settings.UNetConfig) -> str:
    default = settings.UNetConfig().to_dict()
    found = [f"{name} {_plain(value)}" for name, value in size.to_dict().items() if value != default[name]]
    return ", ".join(found) or "the defaults above"


def label_table() -> str:
    """Ids, names and colours of the label map."""
    rows = [
        f"| {label.id} | `{label.name}` | {label.title} | "
        f'<span style="background:rgb{label.colour};border:1px solid #888;padding:0 .8em"></span> '
        f"{' '.join(map(str, label.colour))} |"
        for label in ALL
    ]
    return "| id | name | title | colour (RGB) |\n|---|---|---|---|\n" + "\n".join(rows)


def interface() -> str:
    """Every public name of the package, for mkdocstrings."""
    public = [name for name in diffseglung.__all__ if not name.startswith("__")]
    return "\n\n".join(f"::: diffseglung.{name}" for name in sorted(public, key=str.lower))


def cohort_columns() -> str:
    """The columns of cohort.csv."""
    return ", ".join(f"`{name}`" for name in COLUMNS) + "."


def _escaped(text: str) -> str:
    """Text for a Markdown table or paragraph; text between backticks stays unchanged."""
    parts = text.split("`")
    plain = [re.sub(r"([|*_])", r"\\\1", part.replace("<", "&lt;")) for part in parts[::2]]
    code = [part.replace("|", "\\|") for part in parts[1::2]]
    return "".join(part for pair in zip(plain, [f"`{c}`" for c in code] + [""], strict=False) for part in pair)


GENERATED: dict[str, Callable[[], str]] = {
    "commands": commands,
    "settings": setting_tables,
    "labels": label_table,
    "interface": interface,
    "cohort columns": cohort_columns,
}
"""Mark on a page -> what takes its place."""
