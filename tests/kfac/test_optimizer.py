import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from kfac_helpers import dense, flat, normal, sequential

from baselines_acktr.kfac import (
    BackgroundInverter,
    CholeskyForm,
    Divergence,
    EigenForm,
    InlineInverter,
    Kfac,
    NoInverseError,
    Objective,
    UnsupportedLayerError,
    categorical_kl,
    categorical_log_likelihood,
    gaussian_log_likelihood,
    step_length,
)

pytestmark = pytest.mark.long


def classifier(seed: int = 0) -> keras.Sequential:
    return sequential(dense(4, "tanh"), dense(3), input_shape=(5,), seed=seed)


def make(model, **options) -> Kfac:
    return Kfac(model, **{"inverter": InlineInverter(), "decay": 0.99} | options)


def objective_of(optimizer, model):
    def objective(x, labels):
        logits = model(x)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return Objective(loss, categorical_log_likelihood(logits, optimizer.generator), {"logits": logits})

    return objective


def data(rows: int = 16, seed: int = 1):
    return normal(rows, 5, seed=seed), np.random.default_rng(seed).integers(0, 3, rows)


def weights(model) -> list[np.ndarray]:
    return [variable.value.numpy().copy() for variable in model.trainable_variables]


def matrices(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [np.vstack(arrays[i : i + 2]) for i in range(0, len(arrays), 2)]


def loss_gradients(model, x, labels) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x)))
    return matrices([g.numpy() for g in tape.gradient(loss, [v.value for v in model.trainable_variables])])


def test_first_step_is_the_dense_natural_gradient_of_the_first_batch():
    model = classifier()
    optimizer = make(model, learning_rate=0.1, delta=1e6, momentum=0.0, damping=0.05, form=EigenForm())
    before, gradients = matrices(weights(model)), loss_gradients(model, *data())
    optimizer.minimize(objective_of(optimizer, model), *data())
    for old, new, gradient, block in zip(before, matrices(weights(model)), gradients, optimizer.blocks, strict=True):
        a, s = (average.numpy() / 0.01 for average in block.averages)  # one batch at decay 0.99: unbiased
        dense_fisher = np.kron(a, s) + 0.05 * np.eye(gradient.size)
        expected = old - 0.1 * np.linalg.solve(dense_fisher, gradient.ravel()).reshape(gradient.shape)
        np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-12)


def test_first_step_of_a_normalization_is_its_dense_natural_gradient():
    layer = keras.layers.LayerNormalization(dtype="float64")
    model = sequential(dense(4, "tanh"), layer, dense(3), input_shape=(5,))
    optimizer = make(model, learning_rate=0.1, delta=1e6, momentum=0.0, damping=0.05, form=EigenForm())
    with tf.GradientTape() as tape:
        loss = objective_of(optimizer, model)(*data()).loss
    gradient = np.concatenate(tape.gradient(loss, [layer.gamma.value, layer.beta.value]))
    before = np.concatenate(layer.get_weights())
    optimizer.minimize(objective_of(optimizer, model), *data())
    _, fisher = (average.numpy() / 0.01 for average in optimizer.blocks[1].averages)
    expected = before - 0.1 * np.linalg.solve(fisher + 0.05 * np.eye(8), gradient)
    np.testing.assert_allclose(np.concatenate(layer.get_weights()), expected, rtol=1e-9, atol=1e-12)


def test_active_trust_region_gives_exactly_delta():
    model = classifier()
    optimizer = make(model, learning_rate=1e3, delta=3e-4, momentum=0.0, damping=0.02, form=EigenForm())
    before = matrices(weights(model))
    metrics = optimizer.minimize(objective_of(optimizer, model), *data())
    total = 0.0
    for old, new, block in zip(before, matrices(weights(model)), optimizer.blocks, strict=True):
        a, s = (average.numpy() / 0.01 for average in block.averages)
        step = (new - old).ravel()
        total += 0.5 * step @ (np.kron(a, s) + 0.02 * np.eye(step.size)) @ step
    np.testing.assert_allclose(total, 3e-4, rtol=1e-9)
    np.testing.assert_allclose(metrics["model_kl"], 3e-4, rtol=1e-9)
    assert float(metrics["trust_region_scale"]) < 1


def test_inactive_trust_region_leaves_eta_max():
    model = classifier()
    optimizer = make(model, learning_rate=1e-4, delta=10.0)
    metrics = optimizer.minimize(objective_of(optimizer, model), *data())
    np.testing.assert_allclose(metrics["step_length"], 1e-4)
    np.testing.assert_allclose(metrics["trust_region_scale"], 1.0)


@pytest.mark.parametrize(("norm", "expected"), [(8.0, 0.5), (2.0, 0.7), (0.0, 0.7)])
def test_step_length_by_hand(norm, expected):
    """sqrt(2 * 1 / 8) = 0.5; sqrt(2 * 1 / 2) = 1 and sqrt(2 / 0) are beyond eta_max = 0.7."""
    result = step_length(tf.constant(norm), tf.constant(0.7), tf.constant(1.0))
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def linear_model():
    """One weight w, loss w: the gradient is 1; the factors are 1 too, so D = 1 / (1 + lambda)."""
    model = sequential(dense(1, use_bias=False), input_shape=(1,))
    model.layers[0].kernel.assign([[5.0]])
    return model


def test_momentum_by_hand():
    """A = S = 1 and lambda = 1 give D = 1/2, eta = lr; m: 1/2, 0.5/2 + 1/2, ...; W: lr (1 - 0.5) m, lr outside m."""
    model = linear_model()
    optimizer = make(model, learning_rate=0.8, delta=1e6, damping=1.0, momentum=0.5)

    def objective(x):
        output = model(x)
        return Objective(tf.reduce_sum(output), tf.reduce_sum(output))

    expected, velocity = 5.0, 0.0
    for lr in (0.8, 0.8, 0.2):
        optimizer.learning_rate.assign(lr)
        optimizer.minimize(objective, np.ones((1, 1)))
        velocity = 0.5 * velocity + 0.5
        expected -= lr * 0.5 * velocity
        np.testing.assert_allclose(weights(model)[0], [[expected]], rtol=1e-12)
    np.testing.assert_allclose(expected, 5 - 0.8 * 0.5 * 0.5 - 0.8 * 0.5 * 0.75 - 0.2 * 0.5 * 0.875)


def test_running_averages_are_unbiased_from_the_first_batch():
    model = linear_model()
    optimizer = make(model, decay=0.9, learning_rate=1e-9)

    def objective(x):
        output = model(x)
        return Objective(tf.reduce_sum(output), tf.reduce_sum(output))

    inputs = [3.0, 1.0, 2.0]
    for count in range(1, 4):
        optimizer.minimize(objective, np.full((1, 1), inputs[count - 1]))
        a = optimizer.curvature.snapshot(0).factors[0].a.numpy()
        decayed = [0.9 ** (count - 1 - i) for i in range(count)]
        expected = np.average(np.square(inputs[:count]), weights=decayed)
        np.testing.assert_allclose(a, [[expected]], rtol=1e-12)


def run_steps(optimizer, model, steps: int, start: int = 0):
    objective = objective_of(optimizer, model)
    for seed in range(start, start + steps):
        optimizer.minimize(objective, *data(seed=seed))


def test_background_training_equals_inline_when_every_refresh_is_waited_for():
    results = []
    for inverter in ("inline", "background"):
        model = classifier()
        with Kfac(model, inverter=InlineInverter()) if inverter == "inline" else Kfac(model) as optimizer:
            objective = objective_of(optimizer, model)
            for seed in range(4):
                optimizer.curvature.inverse_step = -1  # as before the first step: wait
                optimizer.minimize(objective, *data(seed=seed))
        results.append(weights(model))
    for inline, background in zip(*results, strict=True):
        np.testing.assert_array_equal(inline, background)


def test_inverses_are_refreshed_every_interval_and_more_often_at_the_start():
    """After a tenth of the updates so far: every update up to 19, every second up to 29, then every third."""
    model = classifier()
    optimizer = make(model, inverse_interval=3)
    ages = []
    for seed in range(36):
        run_steps(optimizer, model, 1, seed)
        ages.append(optimizer.counters["inverse_age"])
    assert ages == 20 * [0] + 5 * [1, 0] + 2 * [1, 2, 0]


def test_factors_are_estimated_every_interval_and_in_every_update_at_the_start():
    model = classifier()
    optimizer = make(model, factor_interval=2)
    changed, last = [], None
    for step in range(26):
        run_steps(optimizer, model, 1, start=step)
        averages = [block.averages[0].numpy() for block in optimizer.blocks]
        changed.append(last is None or not np.array_equal(averages[0], last[0]))
        last = averages
    assert changed == [True] * 20 + [True, False] * 3


def test_an_update_without_factors_has_the_same_gradient():
    model = classifier()
    optimizer = make(model, factor_interval=2)
    objective, batch = objective_of(optimizer, model), data()
    metrics, expected = optimizer.differentiate(objective, *batch)
    state = optimizer.state()
    state["counters"][0] = 21  # an update that makes no factors
    optimizer.set_state(state)
    before = optimizer.blocks[0].averages[0].numpy()
    others, gradient = optimizer.differentiate(objective, *batch)

    np.testing.assert_array_equal(optimizer.blocks[0].averages[0], before)
    assert float(others["loss"]) == pytest.approx(float(metrics["loss"]))
    for ours, theirs in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_training_is_traced_once_whatever_the_rate():
    model = classifier()
    optimizer = make(model)
    traces = []

    def objective(*batch):
        traces.append(batch)
        return objective_of(optimizer, model)(*batch)

    for rate in (0.1, 0.2, 0.3):
        optimizer.learning_rate.assign(rate)
        optimizer.damping.assign(rate)
        optimizer.minimize(objective, *data())
    assert len(traces) == 1
    assert optimizer._kfac_step.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 1e-3), ("delta", 1e-9), ("momentum", 0.5), ("decay", 0.5)]
)
def test_numbers_that_are_assigned_are_followed(name, value):
    model, twin = classifier(), classifier()
    options = {"learning_rate": 0.1, "delta": 1e-3, "momentum": 0.0, "decay": 0.9}
    optimizer, other = make(model, **options), make(twin, **options)
    for each, net in ((optimizer, model), (other, twin)):
        run_steps(each, net, 2)
    setattr(optimizer, name, value)
    assert float(getattr(optimizer, name)) == pytest.approx(value)
    for each, net in ((optimizer, model), (other, twin)):
        run_steps(each, net, 2, start=2)
    assert any((array != same).any() for array, same in zip(weights(model), weights(twin), strict=True))


@pytest.mark.parametrize("schedule", [lambda step: 0.1, "fast"])
def test_what_is_no_number_is_refused(schedule):
    with pytest.raises(TypeError, match=r"learning_rate=.*must be a number"):
        make(classifier(), learning_rate=schedule)
    optimizer = make(classifier())
    with pytest.raises(TypeError, match=r"learning_rate=.*must be a number"):
        optimizer.learning_rate = schedule


def test_minimize_inside_a_graph_names_what_to_use():
    model = classifier()
    optimizer = make(model)
    with pytest.raises(RuntimeError, match=r"Kfac\.advance"):
        tf.function(lambda: optimizer.minimize(objective_of(optimizer, model), *data()))()


@pytest.mark.parametrize("layer", ["dense", "convolution"])
def test_sizes_of_sequences_and_images_may_change(layer):
    if layer == "dense":
        model = sequential(dense(3), input_shape=(None, 5))
        batches = [normal(4, length, 5, seed=length) for length in (4, 7, 4, 5)]
    else:
        model = sequential(keras.layers.Conv2D(3, 2, dtype="float64"), input_shape=(None, None, 2))
        batches = [normal(4, size, size, 2, seed=size) for size in (5, 8, 5, 6)]
    optimizer = make(model)

    def objective(x):
        outputs = model(x)
        return Objective(tf.reduce_mean(outputs**2), gaussian_log_likelihood(outputs, optimizer.generator))

    for batch in batches:
        assert np.isfinite(optimizer.minimize(objective, batch)["loss"])


def test_functions_made_anew_for_every_step_are_warned_about(caplog):
    model = classifier()
    optimizer = make(model)
    for _ in range(33):
        optimizer.minimize(objective_of(optimizer, model), *data())
    assert caplog.text.count("pass the same function") == 1


def test_weights_with_a_constraint_are_refused_where_factors_are_asked_for():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, bias_constraint="non_neg", name="layer")])
    with pytest.raises(UnsupportedLayerError, match="layer/bias has a constraint"):
        make(model, strict=True)


def test_mixed_precision_is_refused_where_factors_are_asked_for():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, dtype="mixed_float16")])
    with pytest.raises(UnsupportedLayerError, match="no mixed precision"):
        make(model, strict=True)


def test_a_rate_of_zero_leaves_the_weights():
    model = classifier()
    optimizer = make(model, momentum=0.9)
    run_steps(optimizer, model, 2)
    before = weights(model)
    optimizer.learning_rate.assign(0.0)
    metrics = optimizer.minimize(objective_of(optimizer, model), *data())
    assert all(np.isfinite(metrics[name]).all() for name in ("step_length", "trust_region_scale", "model_kl"))
    for array, same in zip(weights(model), before, strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("in_a_graph", [True, False])
def test_advancing_is_minimizing_with_the_inverses_that_there_are(in_a_graph):
    model, twin = classifier(), classifier()
    optimizer, other = make(model, inverse_interval=4, momentum=0.5), make(twin, inverse_interval=4, momentum=0.5)
    run_steps(optimizer, model, 43)
    run_steps(other, twin, 43)
    before = other.state()
    objective, objective_of_twin, batch = objective_of(optimizer, model), objective_of(other, twin), data()
    for _ in range(3):
        expected = optimizer.minimize(objective, *batch)

    def loss(*batch):
        found = objective_of_twin(*batch)
        return found.loss, found.metrics

    def three_updates():
        for _ in range(2):
            other.advance(loss, *batch)
        return other.advance(loss, *batch)

    metrics = (tf.function(three_updates) if in_a_graph else three_updates)()
    assert optimizer.counters["inverse_age"] == 3
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-12)
    for array, same in zip(weights(twin), weights(model), strict=True):
        np.testing.assert_allclose(array, same, rtol=1e-12)
    of_both, state = optimizer.state(), other.state()
    for name, array in state.items():
        if name.endswith("velocity"):
            np.testing.assert_allclose(array, of_both[name], rtol=1e-11, atol=1e-15, err_msg=name)
        elif name not in ("counters", "generator"):
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_awaiting_the_inverses_of_the_background_thread():
    model = classifier()
    with make(model, inverter=BackgroundInverter()) as optimizer:
        optimizer.await_inverses()
        for seed in range(5):
            optimizer.minimize(objective_of(optimizer, model), *data(seed=seed))
            optimizer.await_inverses()
            assert optimizer.counters["inverse_age"] == 0


def test_a_snapshot_that_close_gives_up_is_taken_anew_at_once():
    model = classifier()
    with make(model, inverse_interval=3, inverter=BackgroundInverter()) as optimizer:
        run_steps(optimizer, model, 40)
        optimizer.await_inverses()
        while optimizer.inverter.idle:
            run_steps(optimizer, model, 1)
        optimizer.close()
        run_steps(optimizer, model, 1)
        optimizer.await_inverses()
        assert optimizer.counters["inverse_age"] == 0


def test_continuing_from_state_equals_not_having_stopped():
    model = classifier()
    optimizer = make(model, inverse_interval=3)
    run_steps(optimizer, model, 21)
    assert optimizer.counters["inverse_age"] == 1
    state, saved = optimizer.state(), weights(model)
    run_steps(optimizer, model, 4, start=21)

    other = classifier(seed=9)
    resumed = make(other, inverse_interval=3, seed=77)
    for variable, value in zip(other.trainable_variables, saved, strict=True):
        variable.assign(value)
    resumed.set_state(state)
    run_steps(resumed, other, 4, start=21)
    for straight, continued in zip(weights(model), weights(other), strict=True):
        np.testing.assert_array_equal(straight, continued)
    assert resumed.counters == optimizer.counters


class OneAtATime(InlineInverter):
    """Inverts at once, but hands a result out only where it is waited for."""

    idle = property(lambda self: self._finished is None)
    immediate = False

    def poll(self, wait=False):
        return super().poll() if wait else None


class Instant(InlineInverter):
    """A background thread that is done before it is asked."""

    immediate = False


def test_inverses_of_a_background_thread_are_for_later_updates_however_fast_it_is():
    model = classifier()
    optimizer = make(model, inverter=Instant())
    ages = []
    for start in range(4):
        run_steps(optimizer, model, 1, start=start)
        ages.append(optimizer.counters["inverse_age"])
    assert ages == [0, 1, 1, 1]


def test_a_snapshot_in_work_does_not_outlive_a_return_to_an_earlier_state():
    model = classifier()
    optimizer = make(model, inverter=OneAtATime())
    run_steps(optimizer, model, 1)
    state = optimizer.state()
    run_steps(optimizer, model, 3, start=1)
    assert not optimizer.inverter.idle
    optimizer.set_state(state)
    optimizer.await_inverses()
    assert optimizer.counters["inverse_age"] == 0
    for name, array in optimizer.state().items():
        np.testing.assert_array_equal(array, state[name])


def exact_fisher(model, x) -> np.ndarray:
    """Of softmax(model(x)), mean over the rows: [P, P] for all weights one after the other."""
    with tf.GradientTape() as tape:
        log_probabilities = tf.nn.log_softmax(model(x))
    parts = tape.jacobian(log_probabilities, [variable.value for variable in model.trainable_variables])
    jacobian = np.concatenate([part.numpy().reshape(*log_probabilities.shape, -1) for part in parts], axis=2)
    return np.einsum("bc,bcp,bcq->pq", np.exp(log_probabilities), jacobian, jacobian) / len(x)


@pytest.mark.parametrize("form", [CholeskyForm(), EigenForm()])
def test_with_a_divergence_the_trust_region_is_that_of_the_batchs_exact_fisher(form):
    model, delta = classifier(), 1e-9
    optimizer = make(model, learning_rate=10.0, delta=delta, momentum=0.0, damping=0.3, form=form)
    x, labels = data()
    old, fisher, before = model(x), exact_fisher(model, x), flat(weights(model))
    divergence = Divergence(lambda x, labels: model(x), categorical_kl)
    metrics = optimizer.minimize(objective_of(optimizer, model), x, labels, divergence=divergence)
    step = before - flat(weights(model))
    assert 0.5 * step @ fisher @ step == pytest.approx(delta, rel=1e-6)
    assert float(metrics["model_kl"]) == pytest.approx(delta)
    assert float(categorical_kl(old, model(x))) == pytest.approx(delta, rel=1e-3)


def test_a_step_whose_model_is_not_finite_is_left_out():
    model = classifier()
    optimizer = make(model)
    x, labels = data()
    before = weights(model)
    divergence = Divergence(lambda x, labels: model(x) * np.inf, categorical_kl)
    optimizer.minimize(objective_of(optimizer, model), x, labels, divergence=divergence)
    np.testing.assert_array_equal(flat(before), flat(weights(model)))
    assert optimizer.counters["skipped_updates"] == 1


def test_statistics_that_are_not_finite_are_left_out():
    model = classifier()
    optimizer = make(model)
    run_steps(optimizer, model, 2)
    before = [average.numpy() for block in optimizer.blocks for average in block.averages]
    x, labels = data()
    x[0, 0] = np.nan
    optimizer.minimize(objective_of(optimizer, model), x, labels)
    after = [average.numpy() for block in optimizer.blocks for average in block.averages]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert optimizer.counters["skipped_statistics"] == 1


def test_gradient_that_is_not_finite_never_reaches_a_parameter():
    model = classifier()
    optimizer = make(model)
    run_steps(optimizer, model, 2)
    before = weights(model)
    x, labels = data()
    x[0, 0] = np.inf
    optimizer.minimize(objective_of(optimizer, model), x, labels)
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert optimizer.counters["skipped_updates"] == 1
    run_steps(optimizer, model, 1)
    assert all(np.isfinite(array).all() for array in weights(model))


@pytest.mark.parametrize("bad", [np.nan, -50.0])
def test_bad_factor_keeps_the_old_inverses_and_is_counted_and_logged(bad, caplog):
    model = classifier()
    optimizer = make(model)
    run_steps(optimizer, model, 2)
    before = [tensor.numpy() for block in optimizer.blocks for tensor in block.tensors]
    broken = optimizer.blocks[1].averages[0]
    broken.assign(tf.linalg.set_diag(broken, tf.fill([len(broken.numpy())], tf.constant(bad, tf.float64))))
    with caplog.at_level(logging.WARNING):
        optimizer.refresh_inverses()
    after = [tensor.numpy() for block in optimizer.blocks for tensor in block.tensors]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert optimizer.counters["skipped_refreshes"] == 1
    assert "dense" in caplog.text


def test_bad_first_factors_are_an_error_not_an_unpreconditioned_step():
    model = classifier()
    optimizer = make(model)
    before = weights(model)
    x, labels = data()
    x[:] = np.nan
    with pytest.raises(NoInverseError, match="cannot start"):
        optimizer.minimize(objective_of(optimizer, model), x, labels)
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layer_outside_the_log_likelihood_is_named():
    inputs = keras.Input((5,), dtype="float64")
    used, unused = keras.layers.Dense(2, name="used", dtype="float64"), keras.layers.Dense(2, name="unused")
    model = keras.Model(inputs, [used(inputs), unused(inputs)])
    optimizer = make(model)

    def objective(x):
        first, second = model(x)
        second = tf.cast(second, tf.float64)
        return Objective(tf.reduce_sum(first) + tf.reduce_sum(second), tf.reduce_sum(first))

    with pytest.raises(ValueError, match="'unused'"):
        optimizer.minimize(objective, normal(3, 5))


def test_fisher_may_be_taken_on_fewer_rows_than_the_loss():
    """The model is called on the Fisher's rows and on the rest; only the first call enters the factors."""
    model = classifier()
    optimizer = make(model)
    x, labels = data(12)

    def objective(x, labels):
        first, rest = model(x[:4]), model(x[4:])
        logits = tf.concat([first, rest], axis=0)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return Objective(loss, gaussian_log_likelihood(first, optimizer.generator))

    optimizer.minimize(objective, x, labels)
    rows = np.hstack([x[:4], np.ones((4, 1))])
    np.testing.assert_allclose(optimizer.curvature.snapshot(0).factors[0].a, rows.T @ rows / 4, rtol=1e-12)


def test_last_step_model_kl_equals_the_dense_quadratic_form():
    model = classifier()
    optimizer = make(model, learning_rate=0.3, momentum=0.5)
    run_steps(optimizer, model, 3)
    before = matrices(weights(model))
    run_steps(optimizer, model, 1, start=3)
    total = 0.0
    factors = optimizer.curvature.snapshot(0).factors
    for old, new, (_, a, s) in zip(before, matrices(weights(model)), factors, strict=True):
        step = (new - old).ravel()
        total += 0.5 * step @ np.kron(a, s) @ step
    np.testing.assert_allclose(optimizer.last_step_model_kl(), total, rtol=1e-9)


def test_convolutional_classifier_trains_in_float32():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), dense32(2)]
    )
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    labels = (x[:, :4].mean((1, 2, 3)) > x[:, 4:].mean((1, 2, 3))).astype(np.int64)
    optimizer = make(model, learning_rate=0.3, delta=0.01, max_sites=16)
    objective = objective_of(optimizer, model)
    losses = [float(optimizer.minimize(objective, x, labels)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.1 < losses[0]


def dense32(units: int) -> keras.layers.Dense:
    return keras.layers.Dense(units)


@pytest.mark.parametrize(
    "options", [{"learning_rate": -1}, {"delta": -1}, {"damping": np.nan}, {"momentum": 1.0}, {"decay": -0.1}], ids=str
)
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(classifier(), **options)
    optimizer = make(classifier())
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=name):
        setattr(optimizer, name, value)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"blend": 1.0}, {"damping_interval": -1}, {"max_sites": -1}])
def test_settings_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make(classifier(), **options)


def test_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="no trainable weights"):
        make(keras.Sequential([keras.layers.Dense(3)]))


def test_unsupported_layer_is_refused_when_the_optimizer_is_made():
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.ConvLSTM1D(2, 2, name="memory")])
    with pytest.raises(UnsupportedLayerError, match=r"ConvLSTMCell|ConvLSTM1D"):
        make(model, strict=True)
