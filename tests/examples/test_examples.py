import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from kfac_helpers import hessian

from baselines_acktr.examples import autoencoder, compare, cost, digits, images, lstm, text
from baselines_acktr.examples.problems import BERNOULLI, CATEGORICAL, GAUSSIAN, PROBLEMS, excess_cross_entropy
from baselines_acktr.examples.race import RaceResult, median_updates, race, tune
from baselines_acktr.examples.rivals import RIVALS
from baselines_acktr.examples.sequences import LETTERS, SEQUENCES

pytestmark = pytest.mark.long
OUTPUTS = np.random.default_rng(0).normal(size=(2, 3))
PIXELS = np.random.default_rng(1).uniform(size=(2, 3))
FAMILIES = pytest.mark.parametrize(
    ("family", "targets"),
    [(CATEGORICAL, np.array([0, 2])), (BERNOULLI, PIXELS), (GAUSSIAN, PIXELS)],
    ids=["categorical", "bernoulli", "gaussian"],
)


@FAMILIES
def test_fisher_of_the_likelihood_is_the_hessian_of_the_loss_at_the_outputs(family, targets):
    draws, fisher = 200_000, np.zeros((6, 6))
    for row, outputs in enumerate(OUTPUTS):
        repeated = tf.constant(np.repeat(outputs[None], draws, axis=0))
        with tf.GradientTape() as tape:
            tape.watch(repeated)
            log_likelihood = family.log_likelihood(repeated, tf.random.Generator.from_seed(row))
        gradients = tape.gradient(log_likelihood, repeated).numpy()
        own = slice(3 * row, 3 * row + 3)
        fisher[own, own] = gradients.T @ gradients / draws / len(OUTPUTS)  # of a mean over rows
    expected = hessian(lambda outputs: family.loss(targets, outputs), OUTPUTS)
    np.testing.assert_allclose(fisher, expected, atol=0.02 * np.abs(expected).max())


@FAMILIES
def test_second_derivative_of_the_mean_kl_is_the_hessian_of_the_loss_at_the_outputs(family, targets):
    expected = hessian(lambda outputs: family.loss(targets, outputs), OUTPUTS)
    got = hessian(lambda outputs: family.mean_kl(tf.constant(OUTPUTS), outputs), OUTPUTS)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@FAMILIES
def test_the_mean_kl_is_0_between_equals_and_positive_otherwise(family, targets):
    old, new = tf.constant(OUTPUTS), tf.constant(OUTPUTS[::-1] + 0.5 * np.eye(2, 3))
    assert abs(float(family.mean_kl(old, old))) < 1e-15
    assert float(family.mean_kl(old, new)) > 0.01


def test_excess_cross_entropy_is_what_the_outputs_add_to_the_entropy_of_the_pixels():
    pixels, halves = np.array([[0.0, 1.0, 0.25]]), np.zeros((1, 3))
    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    np.testing.assert_allclose(float(excess_cross_entropy(pixels, halves)), np.log(2) - entropy / 3)


ALL = PROBLEMS | SEQUENCES


@pytest.mark.parametrize("name", ALL)
def test_networks_fit_their_problem_and_differ_by_seed(name):
    problem = ALL[name]()
    inputs, targets = problem.batch(np.random.default_rng(0))
    assert len(inputs) == len(targets) == problem.batch_size
    first, again, other = (problem.make_model(seed)(inputs) for seed in (0, 0, 1))
    assert np.isfinite(float(problem.family.loss(targets, first)))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    far = 1.5 if name == "text" else 2  # of a letter even the frequencies alone give 2.84 nats
    assert float(problem.metric(problem.targets, problem.make_model(0)(problem.inputs))) > far * problem.target


def test_the_target_of_each_letter_is_the_one_after_it():
    problem = SEQUENCES["text"]()
    np.testing.assert_array_equal(problem.targets[:, :-1], problem.inputs[:, 1:])
    words = "".join(LETTERS[letter] for piece in problem.inputs for letter in piece).split()
    assert words.count("the") > 50


def test_the_transformer_does_not_see_what_it_foretells():
    problem = SEQUENCES["text"]()
    letters = problem.inputs[:2].copy()
    model = problem.make_model(0)
    before = model(letters).numpy()
    letters[:, 9:] = (letters[:, 9:] + 1) % len(LETTERS)
    after = model(letters).numpy()
    np.testing.assert_allclose(after[:, :9], before[:, :9], atol=1e-5)
    assert np.abs(after[:, 9:] - before[:, 9:]).max() > 0.01


def test_every_problem_has_a_name_on_the_command_line():
    assert tuple(ALL) == compare.ALL_PROBLEMS
    assert all(make().name == name for name, make in ALL.items())


def test_targets_of_the_regression_have_variance_1():
    targets = PROBLEMS["regression"]().targets
    np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(targets.var(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("name", RIVALS)
def test_a_run_does_not_feel_the_warm_up_before_it(name, monkeypatch):
    problem, models = PROBLEMS["digits"](), []

    def make_model(seed):
        models.append(problem.make_model(seed))
        return models[-1]

    for updates in (1, 4):
        monkeypatch.setattr("baselines_acktr.examples.race.WARM_UP", updates)
        race(dataclasses.replace(problem, make_model=make_model), name, RIVALS[name].rates[0], seed=0, limit=3)
    weights, others = (np.concatenate([w.ravel() for w in model.get_weights()]) for model in models)
    np.testing.assert_array_equal(weights, others)


def run(updates: int, solved: bool = True) -> RaceResult:
    return RaceResult("digits", "Adam", 0.01, 0, updates, 1.0, solved)


def test_a_median_is_infinite_where_most_seeds_are_given_up():
    assert median_updates([run(9), run(5), run(7)]) == 7
    assert median_updates([run(9), run(5, False), run(7)]) == 9
    assert median_updates([run(9), run(5, False), run(7, False)]) == np.inf


@pytest.mark.parametrize("best", [0.01, 0.05])
def test_the_grid_is_followed_until_it_gets_worse_on_either_side(best, monkeypatch):
    def fake(problem, optimizer, rate, seed, limit):
        updates = int(20 + 100 * abs(np.log10(rate / best)))
        return RaceResult("digits", optimizer, rate, seed, updates, 1.0, updates <= limit)

    monkeypatch.setattr("baselines_acktr.examples.race.race", fake)
    tried = [runs[0].learning_rate for runs in tune(PROBLEMS["digits"](), "Adam", [0])]
    assert tried[0] == best
    assert set(tried) == {0.01: {0.005, 0.01, 0.02}, 0.05: {0.005, 0.01, 0.02, 0.05, 0.1}}[best]


def test_kfac_needs_fewer_updates_than_tuned_adam_and_sgd():
    updates = {name: median_updates(tune(PROBLEMS["digits"](), name, [0])[0]) for name in ("K-FAC", "Adam", "SGD")}
    assert updates["K-FAC"] < 0.7 * min(updates["Adam"], updates["SGD"]), updates


@pytest.mark.parametrize("name", SEQUENCES)
def test_kfac_solves_sequences_in_a_third_of_the_updates_that_the_others_need(name):
    """A tuned rival needs 80 and more (docs/compare.csv)."""
    assert race(SEQUENCES[name](), "K-FAC", None, seed=0, limit=40).solved


@pytest.fixture
def short(monkeypatch):
    """Every problem is given up after three updates, and Muon and SGD have two learning rates."""
    monkeypatch.setattr("baselines_acktr.examples.race.WARM_UP", 1)
    for name in ("Muon", "SGD"):
        monkeypatch.setitem(RIVALS, name, RIVALS[name]._replace(rates=(0.001, 0.002)))
    for problems in (PROBLEMS, SEQUENCES):
        for name, make in problems.items():
            monkeypatch.setitem(problems, name, lambda make=make: dataclasses.replace(make(), limit=3))


def test_the_command_prints_a_line_for_each_optimizer_and_keeps_every_run(short, tmp_path, capsys):
    """No seed gets there, so no rate is worse than another and all of them are tried."""
    out = tmp_path / "runs.csv"
    assert compare.main(["--problems=digits,regression", "--optimizers=K-FAC,Muon", "--seeds=0", f"--out={out}"]) == 0
    lines = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[:2] for line in lines] == [[p, o] for p in ("digits", "regression") for o in ("K-FAC", "Muon")]
    assert lines[0][2:] == ["default", "inf"]
    runs = pd.read_csv(out)
    assert len(runs) == 2 * (1 + 2)
    assert (runs["updates"] == 3).all() and not runs["solved"].any() and (runs["seconds"] > 0).all()


def test_digits_alone_have_a_command(short, capsys):
    assert digits.main(["--optimizers=SGD", "--seeds=1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("digits")


@pytest.mark.parametrize("command", [autoencoder, images, text, lstm])
def test_the_command_of_a_problem_trains_kfac_or_compares_it_with_all(command, monkeypatch):
    asked = []
    monkeypatch.setattr("baselines_acktr.examples.single.compare", asked.append)
    assert command.main([]) == command.main(["--compare", "--seeds=3"]) == 0
    alone, beside = asked
    assert alone.optimizers == ("K-FAC",) and beside.optimizers == compare.ALL_OPTIMIZERS
    assert alone.problems == beside.problems == (command.__name__.split(".")[-1],)
    assert beside.seeds == (3,)


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [("--problems=chess", "autoencoder"), ("--optimizers=Adma", "AdamW"), ("--seeds=", "at least one")],
)
def test_a_mistake_is_told_in_one_line(flag, allowed, capsys):
    assert compare.main([flag]) == 2
    told = capsys.readouterr().err
    assert allowed in told and told.count("\n") == 1


@pytest.mark.parametrize("name", ["64", "transformer"])
def test_the_cost_of_a_network_is_measured_for_each_optimizer(name):
    found = cost.measure(cost.NETWORKS[name](), updates=2)
    assert min(found) > 0
    assert len(cost.row(name, found).split()) == 1 + len(found)


def test_the_widths_go_from_64_to_2048():
    assert {"64", "2048"} <= set(cost.NETWORKS)
    model, inputs, labels = cost.NETWORKS["256"]()
    assert model.count_params() == 2 * 257 * 256 + 257 * 10
    assert inputs.shape == (cost.ROWS, 256) and labels.max() < 10


def test_networks_to_measure_are_named(capsys):
    assert cost.main(["--networks=65"]) == 2
    assert capsys.readouterr().err.startswith("cost: --networks=65: must be one of 64, ")
