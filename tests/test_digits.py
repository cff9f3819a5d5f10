from baselines_acktr.examples.digits import GRIDS, tune


def test_kfac_needs_fewer_updates_than_tuned_adam_and_sgd():
    updates = {name: tune(name, seeds=(0,)).updates for name in GRIDS}
    best_first_order = min(updates["Adam"], updates["SGD, momentum 0.9"])
    assert updates["K-FAC"] < 0.7 * best_first_order, updates
