"""The documentation as a site: it builds without a warning, needs no network, and leaves nothing of the code out."""

from __future__ import annotations

import dataclasses
import html
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

import diffseglung
from diffseglung import labels, output
from diffseglung.cli import COMMANDS, build_parser
from diffseglung.cohort.table import COLUMNS
from diffseglung.platform import config
from tests.browser import Browse

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, by `make docs`."""
    root = tmp_path_factory.mktemp("repository")
    done = make_docs(root)
    assert (done.returncode, "WARNING" in done.stdout + done.stderr) == (0, False), done.stderr
    return root / "site"


def make_docs(root: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """`make docs` on links to the repository's files in `root`; of the pages named, copies with a text at their end."""
    for path in (path for path in ROOT.iterdir() if path.name not in ("docs", "site")):
        (root / path.name).symlink_to(path)
    shutil.copytree(DOCS, root / "docs")
    for name, text in changed.items():
        with (root / "docs" / f"{name}.md").open("a", encoding="utf-8") as page:
            page.write(text)
    words = ["make", "--old-file=.venv/.installed", "docs", f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=240)


def test_a_dead_link_ends_the_build(tmp_path: Path) -> None:
    dead = {"data": "[a](nowhere.md)", "quality": "[b](data.md#nowhere)", "results": "![c](images/nowhere.png)"}
    done = make_docs(tmp_path, **{name: f"\n\n{text}\n" for name, text in dead.items()})
    assert done.returncode != 0
    for name in dead:
        assert re.search(rf"WARNING.*'{name}\.md'.*nowhere", done.stderr), name
    assert done.stderr.count("WARNING") == 3


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Assets(HTMLParser):
    """Addresses that a browser loads with a page, and the words a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video", "audio") and named.get("src"):
            self.loaded.append(str(named["src"]))
        if tag == "link" and named.get("rel") not in ("canonical", "next", "prev", "edit"):
            self.loaded.append(str(named.get("href")))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(page: Path) -> Assets:
    found = Assets()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def text(page: Path) -> str:
    return " ".join("".join(read(page).words).split())


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert [address for address in read(page).loaded if re.match(r"(https?:)?//", address)] == [], page.name
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import\s)['\"]?(?:https?:)?//[^)]*", sheet.read_text(encoding="utf-8")) == []


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(site: Path) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": ([\w/-]+\.md)$", navigation, flags=re.M)
    assert len(listed) == len(set(listed))
    made = {"contributing.md", "changelog.md", "security.md"}
    assert set(listed) == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | made
    assert all((site / page).with_suffix(".html").is_file() for page in listed)


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    page = text(site / "reference" / "cli.html")
    source = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f'id="{command}"' in source
        for action in build_parser(command)._actions:
            for name in action.option_strings:
                known = name in ("-h", "--help") or name.replace("_", "-")[1:] in page.replace("_", "-")
                assert known, f"{command} {name}"


def test_every_setting_is_on_its_page_with_help_and_default(site: Path) -> None:
    page = text(site / "reference" / "settings.html")
    kinds = [kind for kind in config.Config.__subclasses__() if kind.__module__ == config.__name__]
    assert len(kinds) > 10
    for kind in kinds:
        section = page.partition(f" {kind.__name__}¶")[2]
        for field in dataclasses.fields(kind):
            assert f"{field.name} " in section, f"{kind.__name__}.{field.name}"
            assert " ".join(field.metadata["help"].split()) in section
            for choice in field.metadata["choices"]:
                assert choice in section


def test_every_label_public_name_file_and_column_is_named(site: Path) -> None:
    table = text(site / "reference" / "labels.html")
    assert all(f"{label.id} {label.name} {label.title}" in table for label in labels.ALL)
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert all(f'id="diffseglung.{name}"' in python for name in diffseglung.__all__ if name != "__version__")
    files = text(site / "reference" / "files.html")
    assert all(name in files for name in (*output.FILES, *COLUMNS))


def test_links_out_of_docs_lead_to_copies(site: Path, hooks: ModuleType) -> None:
    source = (ROOT / "demo" / "SOURCE.txt").read_text(encoding="utf-8")
    assert (site / "files" / "demo" / "SOURCE.txt").read_text(encoding="utf-8") == source
    assert hooks._inside("data.md", "../demo/SOURCE.txt") == "files/demo/SOURCE.txt"
    assert hooks._inside("howto/dicom.md", "../../CONTRIBUTING.md") == "../contributing.md"
    assert hooks._inside("howto/dicom.md", "../science.md") == "../science.md"
    assert hooks._inside("index.md", "https://example.org/a.md") == "https://example.org/a.md"
    beside = {"LICENSE": "../LICENSE", "docs/data.md": "data.md", "CHANGELOG.md": "changelog.md"}
    for target, moved in (beside | {"https://example.org/a.md": "https://example.org/a.md"}).items():
        assert hooks.LINK.sub(hooks._from_root, f"[x]({target})") == f"[x]({moved})"


def test_text_that_markdown_would_take_for_its_own_is_kept(hooks: ModuleType) -> None:
    assert hooks._escaped("X<TEXT>_a|b `c_d`") == r"X&lt;TEXT>\_a\|b `c_d`"


def test_no_command_is_shown_as_text(site: Path) -> None:
    """A mark that nothing fills in, or a table that broke, shows as source."""
    for page in site.rglob("*.html"):
        source = html.unescape(page.read_text(encoding="utf-8"))
        assert "<!-- generated" not in source
        assert "|---|" not in source
        assert "::: diffseglung" not in source


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site served by this machine to itself."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_site_opens_searches_and_fits_a_phone(address: str, browse: Browse) -> None:
    page = browse(f"{address}/index.html?q=emphysema")
    assert "DiffSegLung" in page.title()
    page.wait_for_selector(".md-search-result__item a", timeout=100_000)
    for name in ("index", "reference/cli", "howto/dicom"):
        phone = browse(f"{address}/{name}.html", width=390, height=844)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_figures_name_modules_that_exist_and_are_small() -> None:
    source = (ROOT / "scripts" / "figures.py").read_text(encoding="utf-8")
    modules = re.findall(r'"([a-z]+(?:/[a-z_]*)+(?:\.py)?)"', source.partition("BOXES")[2].partition("ARROWS")[0])
    assert len(modules) == 12
    assert [name for name in modules if not (ROOT / "diffseglung" / name).exists()] == []
    for name in ("pipeline.svg", "segmentation.png", "generation.png"):
        assert (DOCS / "images" / name).stat().st_size < 300_000
    for drawn in (DOCS / "images" / "pipeline.svg", ROOT / "figures" / "pipeline_distilation.pdf"):
        assert " ".join(modules).encode() in drawn.read_bytes(), f"{drawn.name} is stale: run python -m scripts.figures"


def test_the_published_figures_are_small_pdfs_without_a_date() -> None:
    published = (
        "pipeline_distilation",
        "qualitative_generation_difseglung.drawio",
        "qualitative_segmentatio_reuslts_miccai",
    )
    assert sorted(path.name for path in (ROOT / "figures").iterdir()) == [f"{name}.pdf" for name in published]
    for path in (ROOT / "figures").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        assert len(content) < 400_000
        assert b"Date" not in content
