"""A scan flows one way: a module imports what stands before it. Sizes and names that keep the code readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "diffseglung"
FILES = sorted(PACKAGE.rglob("*.py"))
STUDIES = sorted((ROOT / "studies").rglob("*.py"))
STUDY_IDS = [str(path.relative_to(ROOT)) for path in STUDIES]
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

ORDER = [
    *("platform", "volume", "labels", "segmentation", "io", "case", "phantom", "method", "tissue", "lungs", "quality"),
    *("output", "pipeline", "dry_run", "training", "transforms", "cohort", "viewer", "cli", "__main__"),
]
RANK = {name: rank for rank, name in enumerate(ORDER)}
METHOD_KNOWS = {"platform", "volume", "labels", "case", "method"}
"""What the paper's part may import: whoever knows the paper can read it without the rest."""
COMPOSING = {"prepare_scan", "onto_window", "class_posterior", "fuse", "to_voxels"}
COMPOSERS = {"pipeline.py", "method/radiomics/clusters.py"}
"""Names that put a scan's stages together, and who may import them: the radiomic clusters are a way of their own."""

DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"}

TESTED_ELSEWHERE = {
    "__main__.py": "cli/test_cli.py",
    "platform/errors.py": "cli/test_bad_input.py",
    "platform/settings.py": "platform/test_config.py",
    "segmentation.py": "output/test_output.py",
    "lungs/tool_process.py": "lungs/test_external_tools.py",
    "tissue/bundle.py": "test_pipeline.py",
    "tissue/fit.py": "test_pipeline.py",
    "tissue/methods.py": "test_pipeline.py",
    "studies/speed/child.py": "studies/commands/test_bench.py",
    "studies/speed/published.py": "studies/commands/test_bench.py",
    "studies/speed/whole.py": "studies/commands/test_bench.py",
    "studies/speed/scans.py": "studies/commands/test_bench.py",
    "output/dicom/codes.py": "output/dicom/test_images.py",
    "output/dicom/identity.py": "output/dicom/test_images.py",
    "cli/options.py": "cli/test_cli.py",
    "cli/terminal.py": "cli/test_json_output.py",
    "cohort/cluster.py": "cohort/test_run.py",
    "training/labelled_cases.py": "studies/test_probes.py",
    "case/positions.py": "tissue/test_local.py",
    "cli/precompute.py": "cli/test_training_commands.py",
    "cli/train.py": "cli/test_training_commands.py",
    "cli/distill.py": "cli/test_training_commands.py",
    "cli/segment.py": "cli/test_bad_input.py",
    "cli/check.py": "cli/test_self_tests.py",
    "cli/clusters.py": "cli/test_documented_commands.py",
    "cli/fit.py": "cli/test_documented_commands.py",
}
"""Modules whose test has another name than test_<module>.py."""


def stage_of(path: Path) -> str:
    """The first name below the package: a module or a sub-package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, package: str = "diffseglung") -> set[str]:
    """Dotted names of a package that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith(f"{package}.")}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_point_upstream(path: Path) -> None:
    stage = stage_of(path)
    if stage == "__init__":
        return
    seen = {name.split(".")[1] for name in imports(parse(path))} & RANK.keys()
    later = sorted(name for name in seen - {stage} if RANK[name] > RANK[stage])
    assert not later, f"{path.relative_to(ROOT)} imports downstream: {later}"
    assert stage != "method" or seen <= METHOD_KNOWS
    assert "studies" not in {name.split(".")[0] for name in imports(parse(path), "studies")} or stage == "cli"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_the_pipeline_composes_the_stages(path: Path) -> None:
    taken = {name.rpartition(".")[2] for name in imports(parse(path))} & COMPOSING
    assert not taken or path.relative_to(PACKAGE).as_posix() in COMPOSERS, f"{path} composes: {taken}"


def test_every_stage_has_a_place_in_the_order() -> None:
    assert {stage_of(path) for path in FILES} - {"__init__"} <= RANK.keys()


def test_no_module_imports_itself_through_others() -> None:
    names = {".".join(("diffseglung", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES}
    names = {name.removesuffix(".__init__") for name in names}
    edges = {}
    for path in FILES:
        own = ".".join(("diffseglung", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        found = imports_when_loaded(parse(path))
        edges[own] = {name for name in found if name in names and name != own}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        state[name] = 1
        for child in sorted(edges.get(name, ())):
            assert state.get(child) != 1, f"circular import: {' -> '.join((*trail, name, child))}"
            if child not in state:
                visit(child, (*trail, name))
        state[name] = 2

    for name in sorted(edges):
        if name not in state:
            visit(name, ())


def imports_when_loaded(tree: ast.Module) -> set[str]:
    """As `imports`, without those inside functions and TYPE_CHECKING blocks."""
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports(ast.Module(body=list(top), type_ignores=[]))


@pytest.mark.parametrize("path", [*FILES, *STUDIES], ids=[*IDS, *STUDY_IDS])
def test_files_functions_and_parameter_lists_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 60, f"{node.name} is longer than 60 lines"
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            counted = [a.arg for a in every if a.arg not in ("self", "cls") and not a.arg.endswith("config")]
            assert len(counted) <= 6, f"{node.name} takes {len(counted)} parameters: {counted}"


@pytest.mark.parametrize("path", [*FILES, *STUDIES], ids=[*IDS, *STUDY_IDS])
def test_no_drawer_no_absolute_path_no_pickle(path: Path) -> None:
    assert path.stem not in DRAWERS
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""["'](/(?!proc/|sys/)[A-Za-z]\w*/|[A-Z]:\\)""", text), "an absolute path"
    assert not re.search(r"allow_pickle\s*=\s*True|weights_only\s*=\s*False|\bimport pickle\b", text)


def words_to_people(tree: ast.Module) -> set[int]:
    """Identities of the strings in docstrings and help texts."""
    found = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    helps = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"]
    return found | {id(part) for help in helps for part in ast.walk(help)}


def devices_named(tree: ast.Module) -> list[str]:
    """Names, attributes and strings of the code that mean a kind of GPU."""
    told = words_to_people(tree)
    nodes = [node for node in ast.walk(tree) if id(node) not in told]
    named = [getattr(node, name, None) for node in nodes for name in ("id", "attr", "value")]
    return [text for text in named if isinstance(text, str) and re.search(r"cuda|\bmps\b|\bnccl\b", text)]


def settings_made(tree: ast.Module, path: Path) -> list[str]:
    """Groups of settings and their fields; in a command also ranges and defaults of its options (0 and 1 are none)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found += [name for name in (node.name, *map(ast.unparse, node.bases)) if name.endswith("Config")]
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) == "setting":
            found.append(ast.unparse(node))
        if path.parent.name == "cli" and ast.unparse(node.func).endswith(".add_argument"):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            default, choices = given.get("default"), given.get("choices")
            if isinstance(choices, ast.Tuple | ast.List | ast.Set):
                found.append(ast.unparse(choices))
            numbers = [part.value for part in ast.walk(default or node.func) if isinstance(part, ast.Constant)]
            found += [str(n) for n in numbers if isinstance(n, int | float) and n not in (0, 1)]
    return found


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_gpus_are_named_in_runtime_alone_and_settings_made_in_config_alone(path: Path) -> None:
    tree = parse(path)
    assert path.name == "runtime.py" or not devices_named(tree)
    assert path.name in ("config.py", "settings.py") or not settings_made(tree, path)


@pytest.mark.parametrize(
    "code",
    [
        *("place = 'cuda:1'", "torch.cuda.device_count()", "floor = weight.is_cuda", "device.type in ('cpu', 'mps')"),
        *("class A(Config): pass", "class FitConfig: pass", "n: int = setting(3, 'rows')"),
        *("p.add_argument('-n', default=12)", "p.add_argument('-s', default=(1.5, 2))"),
        "p.add_argument('--split', choices=('train', 'test'))",
    ],
)
def test_a_gpu_or_a_setting_in_another_place_is_seen(code: str) -> None:
    tree = ast.parse(code)
    assert devices_named(tree) or settings_made(tree, PACKAGE / "cli" / "a.py")


@pytest.mark.parametrize("path", [*FILES, *STUDIES], ids=[*IDS, *STUDY_IDS])
def test_every_module_has_a_test_file(path: Path) -> None:
    if path.name == "__init__.py":
        return
    name = path.relative_to(PACKAGE if path in FILES else ROOT)
    twin = TESTED_ELSEWHERE.get(name.as_posix(), name.with_name(f"test_{name.name}").as_posix())
    assert (ROOT / "tests" / twin).is_file(), f"{name} has no tests/{twin}"


def test_importing_the_package_has_no_side_effects() -> None:
    """Neither random state, nor environment, nor warnings, nor logging, nor the heavy libraries."""
    code = """
import logging, os, random, sys, warnings
before = (dict(os.environ), random.getstate(), list(warnings.filters), list(logging.getLogger().handlers))
import diffseglung, diffseglung.cli, diffseglung.platform.config
assert before == (dict(os.environ), random.getstate(), list(warnings.filters), list(logging.getLogger().handlers))
assert not {"torch", "numpy", "SimpleITK", "matplotlib", "sklearn"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


LIBRARY = {
    "distillation", "gpu_gmm", "gpu_radiomics", "lung_dataset", "lung_dataset_precomputed", "patch_utils",
    "radiomic_features",
}  # fmt: skip
"""Files at the root which the published repository has as modules; tests/test_library_files.py tests them."""


def test_root_scripts_are_a_docstring_and_one_call() -> None:
    for path in ROOT.glob("*.py"):
        if path.stem in LIBRARY:
            continue
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(lines) <= 6, path.name
        assert any("run_script(" in line for line in lines), path.name


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_library_files_at_the_root_only_pass_on_what_the_package_has(name: str) -> None:
    """Imports and `__all__`; at most one short class, no function: what they do is in the package."""
    tree = parse(ROOT / f"{name}.py")
    own = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)]
    assert len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 30
    assert all(isinstance(node, ast.ClassDef) for node in own)
    assert len(own) <= 1
    assert imports(tree)


def test_requirements_are_those_of_the_package_and_of_training() -> None:
    """`pip install -r requirements.txt` suffices for every script at the root, two of which train."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [
        line
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and line[0] not in "#-"
    ]
    assert listed == project["dependencies"] + project["optional-dependencies"]["train"]
