import pytest

from baselines_acktr.examples.cost import NETWORKS, milliseconds
from baselines_acktr.examples.digits import GRIDS, tune


def test_kfac_needs_fewer_updates_than_tuned_adam_and_sgd():
    updates = {name: tune(name, seeds=(0,)).updates for name in GRIDS}
    best_first_order = min(updates["Adam"], updates["SGD, momentum 0.9"])
    assert updates["K-FAC"] < 0.7 * best_first_order, updates


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cost_of_every_network_is_measured(name):
    kfac, adam = milliseconds(NETWORKS[name], rounds=1, batches=2)
    assert kfac > 0 and adam > 0
