"""Imports go one way: run -> learners -> {checkpoint, rollouts, kfac} -> {policies, losses, returns} -> common."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("baselines_acktr/**/*.py"), *ROOT.glob("common/**/*.py")])


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def offenders(paths, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in forbidden)
    ]


def package(*names: str) -> list[Path]:
    found = [path for path in SOURCES for name in names if path.is_relative_to(ROOT / name)]
    assert found, names
    return found


def test_common_knows_nothing_of_baselines_acktr():
    assert offenders(package("common"), ("baselines_acktr",)) == []


def test_kfac_knows_nothing_of_reinforcement_learning():
    inside = "baselines_acktr.kfac"
    others = offenders(package("baselines_acktr/kfac"), ("baselines_acktr", "common", "gymnasium", "ale_py"))
    assert [text for text in others if inside not in text and not text.endswith("imports baselines_acktr")] == []


def test_environments_know_nothing_of_tensorflow():
    assert offenders(package("common/vec_env"), ("tensorflow", "keras")) == []


@pytest.mark.parametrize("name", ["losses.py", "returns.py", "networks.py", "policies.py", "rollouts.py"])
def test_parts_do_not_import_learners(name):
    learners = ("baselines_acktr.acktr_discrete", "baselines_acktr.training", "run")
    assert offenders(package(f"baselines_acktr/{name}"), learners) == []


def test_nothing_imports_run():
    assert offenders(SOURCES, ("run",)) == []
