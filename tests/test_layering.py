"""Imports go one way: from a floor of `FLOORS` to those before it, or to others of the same floor.

It counts every import, those inside functions and those for type checkers too.
"""

import ast
import graphlib
from pathlib import Path

import pytest
from repository import ROOT

# From the bottom to the top, as CONTRIBUTING.md has them; a name stands for a module or for a package with all in it.
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
FLOORS = tuple(tuple(line.split()) for line in CONTRIBUTING.split("```")[3].strip().splitlines())
LEARNERS = next(floor for floor in FLOORS if "baselines_acktr.acktr_discrete" in floor)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for folder in ("baselines_acktr", "common") for path in ROOT.glob(f"{folder}/**/*.py")}
PATHS["run"] = ROOT / "run.py"


def imports(module: str) -> set[str]:
    """Names of what a module imports: of modules, and of what is imported from them."""
    names = set()
    for node in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imported_modules(module: str) -> set[str]:
    """The modules of this project that a module imports; of `from package import module` the module alone."""
    found = imports(module) & PATHS.keys() - {module}
    parents = {name.rpartition(".")[0] for name in found}
    packages = {name for name in found & parents if PATHS[name].name == "__init__.py"}
    return found - packages


def is_in(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def floor(module: str) -> int:
    """The floor of the longest name that the module is in; the package on top of all learners is a module there."""
    names = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    found = [name for name in names if module == name or (name != "baselines_acktr" and is_in(module, name))]
    assert found, f"{module} is on no floor"
    return names[max(found, key=len)]


def offenders(module: str, *forbidden: str) -> list[str]:
    return sorted(name for name in imports(module) if any(is_in(name, prefix) for prefix in forbidden))


def within(*names: str) -> list[str]:
    found = sorted(module for module in PATHS if any(is_in(module, name) for name in names))
    assert found, names
    return found


@pytest.mark.parametrize("module", sorted(PATHS))
def test_a_module_imports_from_its_own_floor_and_those_below(module):
    assert [name for name in sorted(imported_modules(module)) if floor(name) > floor(module)] == []


def test_modules_do_not_import_each_other_in_a_circle():
    order = graphlib.TopologicalSorter({module: imported_modules(module) for module in PATHS})
    assert len(list(order.static_order())) == len(PATHS)


@pytest.mark.parametrize("name", [name for floor in FLOORS for name in floor])
def test_every_name_of_a_floor_is_that_of_a_module(name):
    assert name in PATHS


def test_contributing_names_every_module():
    as_a_whole = tuple(f"baselines_acktr.{name}" for name in ("examples", "benchmark", "paper", "zoo"))
    as_a_whole += ("common.vec_env",)
    modules = {name: path.name for name, path in PATHS.items() if not any(is_in(name, top) for top in as_a_whole)}
    missing = [name for name, file in modules.items() if file not in CONTRIBUTING and file != "__init__.py"]
    assert missing == []


@pytest.mark.parametrize("module", LEARNERS)
def test_learners_do_not_import_each_other(module):
    assert offenders(module, *(other for other in LEARNERS if other != module)) == []


@pytest.mark.parametrize("module", within("baselines_acktr.a2c", "baselines_acktr.trpo"))
def test_first_order_learners_and_trpo_do_not_import_kfac(module):
    assert offenders(module, "baselines_acktr.kfac") == []


@pytest.mark.parametrize("module", within("baselines_acktr.kfac"))
def test_kfac_knows_nothing_of_environments(module):
    assert offenders(module, "gymnasium", "ale_py", "mujoco", "common.vec_env") == []


@pytest.mark.parametrize("module", within("common.vec_env"))
def test_environments_know_nothing_of_tensorflow(module):
    assert offenders(module, "tensorflow", "keras") == []
