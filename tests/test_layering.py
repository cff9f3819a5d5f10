"""Imports go one way.

run -> learners -> {agents, optimizers} -> {rollouts, policies, losses, returns} -> kfac -> common
"""

import ast
from pathlib import Path

import pytest
from repository import ROOT

from baselines_acktr.session.settings import LEARNERS

LEARNER_MODULES = sorted({learner.module for learner in LEARNERS.values()})
BASE_AGENTS = ("baselines_acktr.agent.shared_agent", "baselines_acktr.agent.disjoint_agent")
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


PURE = ["learning/losses.py", "learning/returns.py", "agent/networks.py", "agent/policies.py", "learning/rollouts.py"]
PURE += ["learning/conjugate_gradient.py", "learning/rmsprop.py", "agent/description.py"]
BASES = [
    "learning/optimizers.py",
    "session/ranks.py",
    "session/checkpoints.py",
    "agent/agent.py",
    "agent/shared_agent.py",
    "agent/disjoint_agent.py",
    "agent/actors.py",
    "agent/gaussian_actor.py",
    "agent/critics.py",
]


@pytest.mark.parametrize("name", PURE + BASES)
def test_parts_and_bases_do_not_import_learners(name):
    assert (
        offenders(package(f"baselines_acktr/{name}"), (*LEARNER_MODULES, "baselines_acktr.session.loop", "run")) == []
    )


@pytest.mark.parametrize("name", PURE)
def test_parts_do_not_import_agents(name):
    assert offenders(package(f"baselines_acktr/{name}"), ("baselines_acktr.agent.agent", *BASE_AGENTS)) == []


@pytest.mark.parametrize("module", LEARNER_MODULES)
def test_learners_do_not_import_each_other(module):
    others = tuple(other for other in LEARNER_MODULES if other != module)
    assert len(others) == 3
    assert offenders(package(module.replace(".", "/") + ".py"), others) == []


def test_first_order_learners_and_trpo_do_not_import_kfac():
    modules = package(
        "baselines_acktr/a2c.py", "baselines_acktr/trpo.py", "baselines_acktr/learning/conjugate_gradient.py"
    )
    assert offenders(modules, ("baselines_acktr.kfac",)) == []


def test_nothing_imports_run():
    assert offenders(SOURCES, ("run",)) == []
