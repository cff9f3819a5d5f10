"""Mistakes of a Keras user: each gets one line that names the argument, its value and what is allowed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from baselines_acktr.kfac import (
    EigenForm,
    Kfac,
    KfacModel,
    Objective,
    UnsupportedLayerError,
    categorical_log_likelihood,
)

layers = keras.layers


def classifier(**dense) -> KfacModel:
    inputs = keras.Input((5,))
    return KfacModel(inputs, layers.Dense(3, "softmax", **dense)(inputs))


def unbuilt() -> keras.Model:
    return keras.Sequential([layers.Dense(3)])


def frozen() -> keras.Model:
    return classifier(trainable=False)


def scaled() -> keras.Model:
    class Scaled(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    return keras.Sequential([keras.Input((5,)), Scaled(3, name="culprit")])


ARGUMENTS = [
    ({"learning_rate": -1}, "learning_rate=-1: must be a finite number at least 0"),
    ({"learning_rate": "fast"}, "learning_rate=fast: must be a number"),
    ({"learning_rate": lambda step: 1}, "must be a number; assign it anew where it follows a schedule"),
    ({"learning_rate": keras.optimizers.Adam()}, "must be a number"),
    ({"delta": -1}, "delta=-1: must be a finite number at least 0"),
    ({"damping": 0}, "damping=0: must be a finite number above 0"),
    ({"damping": np.nan}, "damping=nan: must be a finite number above 0"),
    ({"momentum": 1}, "momentum=1: must be a finite number at least 0 and below 1"),
    ({"momentum": -0.1}, "momentum=-0.1: must be a finite number at least 0 and below 1"),
    ({"decay": 1}, "decay=1: must be a finite number at least 0 and below 1"),
    ({"iterations": 0}, "iterations=0: must be a whole number, at least 1"),
    ({"iterations": 2.5}, "iterations=2.5: must be a whole number, at least 1"),
    ({"iterations": True}, "iterations=True: must be a whole number, at least 1"),
    ({"blend": 1}, "blend=1: must be a finite number, at least 0 and below 1"),
    ({"blend": "half"}, "blend='half': must be a finite number, at least 0 and below 1"),
    ({"damping_interval": -1}, "damping_interval=-1: must be a whole number, at least 1, or None"),
    ({"damping_interval": 0.5}, "damping_interval=0.5: must be a whole number, at least 1, or None"),
    ({"min_damping": -1}, "min_damping=-1: must be a finite number, at least 0"),
    ({"factor_interval": 0}, "factor_interval=0: must be a whole number, at least 1"),
    ({"inverse_interval": 0}, "inverse_interval=0: must be a whole number, at least 1"),
    ({"inverse_interval": 2.5}, "inverse_interval=2.5: must be a whole number, at least 1"),
    ({"max_sites": -1}, "max_sites=-1: must be a whole number, at least 1, or None"),
    ({"max_sites": "all"}, "max_sites='all': must be a whole number, at least 1, or None"),
    ({"form": "svd"}, "form='svd': must be 'cholesky', 'eigen', CholeskyForm() or EigenForm(rank)"),
    ({"form": EigenForm}, "must be 'cholesky', 'eigen', CholeskyForm() or EigenForm(rank)"),
    (
        {"inverter": "thread"},
        "inverter='thread': must be 'background', 'inline', BackgroundInverter() or InlineInverter",
    ),
    ({"inverter": 3}, "inverter=3: must be 'background', 'inline', BackgroundInverter() or InlineInverter()"),
    ({"seed": -1}, "seed=-1: must be a whole number, at least 0"),
    ({"seed": "a"}, "seed='a': must be a whole number, at least 0"),
    ({"diagonal": ["head"]}, "diagonal='head':"),
    ({"clipnorm": 1.0}, "clipnorm=1.0: a step's length is bounded by delta and learning_rate"),
    ({"clipvalue": 1.0}, "clipvalue=1.0: a step's length is bounded by delta and learning_rate"),
    ({"weight_decay": -0.1}, "weight_decay=-0.1: must be a finite number, at least 0"),
    ({"weight_decay": True}, "weight_decay=True: must be a finite number, at least 0"),
    ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps=4: K-FAC's step is of one batch"),
    ({"use_ema": 1}, "use_ema=1: must be True or False"),
    ({"ema_momentum": 1.5}, "ema_momentum=1.5: must be a finite number, at least 0 and below 1"),
    ({"ema_overwrite_frequency": 0.5}, "ema_overwrite_frequency=0.5: must be a whole number, at least 1, or None"),
    ({"loss_scale_factor": 8}, "loss_scale_factor=8: K-FAC does not scale the loss"),
    ({"beta_1": 0.9}, "beta_1=0.9: its part is played by momentum"),
    ({"lr": 0.1}, "lr=0.1: there is no such argument; must be one of learning_rate, delta, damping"),
]


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text and "\n" not in text
    return text


@pytest.mark.parametrize(("arguments", "line"), ARGUMENTS, ids=lambda value: str(value)[:40])
def test_arguments_of_the_optimizer(arguments, line):
    with pytest.raises((ValueError, TypeError)) as caught:
        Kfac(classifier(), **arguments)
    assert line in one_line(caught.value)


@pytest.mark.parametrize("arguments", [{"lr": 0.1}, {"iterations": 0}])
def test_arguments_are_checked_before_there_is_a_model(arguments):
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(arguments))}="):
        Kfac(**arguments)


def test_an_optimizer_without_a_model_says_so():
    with pytest.raises(AttributeError) as caught:
        Kfac(learning_rate=0.1).minimize()
    assert "minimize: this Kfac has no weights yet; must be Kfac(model)" in one_line(caught.value)


@pytest.mark.parametrize("name", ["apply", "apply_gradients"])
def test_gradients_alone_are_refused(name):
    with pytest.raises(TypeError) as caught:
        getattr(Kfac(classifier()), name)([])
    assert "must be Kfac.minimize(objective, *batch), or fit of a KfacModel" in one_line(caught.value)


def test_a_model_of_keras_says_what_takes_a_kfac():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, name="head")], name="mine")
    with pytest.raises(ValueError) as caught:
        model.compile(Kfac(model), "mse")
    assert "Kfac(model 'mine'), which KfacModel(model).compile takes" in one_line(caught.value)


@pytest.mark.parametrize(
    ("make", "options", "line"),
    [
        (unbuilt, {}, "has no trainable weights yet: call it once on a batch before Kfac"),
        (frozen, {}, "has no trainable weights, as its layers are frozen: set layer.trainable = True of those"),
        (lambda: "model", {}, "model='model': must be a Keras model"),
        (scaled, {"strict": True}, "no factors for layer 'culprit' of type Scaled"),
        (lambda: classifier(bias_constraint="non_neg"), {"strict": True}, "has a constraint"),
        (lambda: classifier(dtype="mixed_bfloat16"), {"strict": True}, "K-FAC has no mixed precision"),
    ],
)
def test_models(make, options, line):
    with pytest.raises((ValueError, TypeError)) as caught:
        Kfac(make(), **options)
    assert line in one_line(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("damping", -1, "damping=-1: must be a finite number above 0"),
        ("momentum", 3, "momentum=3: must be a finite number at least 0 and below 1"),
        ("learning_rate", "x", "learning_rate=x: must be a number"),
        ("decay", 2, "decay=2: must be a finite number at least 0 and below 1"),
    ],
)
def test_assignments(name, value, line):
    optimizer = Kfac(classifier())
    with pytest.raises((ValueError, TypeError)) as caught:
        setattr(optimizer, name, value)
    assert line in one_line(caught.value)


MSE = keras.losses.MeanSquaredError


@pytest.mark.parametrize(
    ("optimizer", "options", "line"),
    [
        (lambda model: "adam", {}, "optimizer='adam': must be a Kfac of this model, or 'kfac'"),
        (lambda model: keras.optimizers.Adam(), {}, "must be a Kfac of this model, or 'kfac'"),
        (lambda model: Kfac(classifier()), {}, "optimizer: trains other weights than"),
        (Kfac, {"jit_compile": True}, "jit_compile=True: K-FAC's update is no XLA graph; must be 'auto' or False"),
        (Kfac, {"steps_per_execution": 0}, "steps_per_execution=0: must be a whole number, at least 1"),
        (Kfac, {"steps_per_execution": 1.5}, "steps_per_execution=1.5: must be a whole number, at least 1"),
        (Kfac, {"mean_kl": lambda old, new: 0}, "mean_kl: must come with log_likelihood"),
        (Kfac, {"loss": None}, "loss=None: must be given, or come with log_likelihood"),
        (Kfac, {"loss": MSE(reduction=None)}, "its reduction is None; must be one that gives a number"),
        (Kfac, {"loss_weights": [-1.0]}, "loss_weights=-1.0: must be a finite number, at least 0"),
        (Kfac, {"loss": "mse_"}, "mse_"),
    ],
)
def test_compile(optimizer, options, line):
    model = classifier()
    with pytest.raises((ValueError, TypeError)) as caught:
        model.compile(optimizer(model), **{"loss": "mse"} | options)
    assert line in one_line(caught.value)


def test_half_precision_that_needs_a_scale():
    model = KfacModel(keras.Sequential([keras.Input((5,)), layers.Dense(3, dtype="mixed_float16")]))
    with pytest.raises(ValueError, match="'mixed_float16': K-FAC does not scale the loss; must be mixed_bfloat16"):
        model.compile("kfac", "mse")


def test_what_is_no_model_is_not_wrapped():
    with pytest.raises(TypeError, match="model='x': must be a Keras model, or inputs and outputs of one"):
        KfacModel("x")


def test_labels_that_there_are_not():
    model = classifier()
    model.compile("kfac", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError) as caught:
        model.fit(np.ones((2, 5), "float32"), np.array([0, 7]), verbose=0)
    line = "targets: Received a label value of 7 which is outside the valid range of [0, 3)"
    assert one_line(caught.value) == line


def test_an_output_that_the_loss_does_not_look_at():
    inputs = keras.Input((5,))
    model = KfacModel(inputs, {"used": layers.Dense(1)(inputs), "other": layers.Dense(2, name="idle")(inputs)})
    model.compile("kfac", {"used": "mse"})
    with pytest.raises(ValueError) as caught:
        model.fit(np.ones((2, 5), "float32"), {"used": np.ones((2, 1))}, verbose=0)
    assert "does not depend on layer 'idle'; must be frozen (layer.trainable = False)" in one_line(caught.value)


def test_a_step_inside_a_graph():
    model = classifier()
    optimizer = Kfac(model)
    with pytest.raises(RuntimeError, match=r"cannot be part of a tf.function; Kfac.advance can"):
        tf.function(lambda: optimizer.minimize(lambda: None))()


def test_rows_that_nothing_tells():
    model = scaled()
    optimizer = Kfac(model)

    def objective(x):
        outputs = model(x)
        return Objective(tf.reduce_mean(outputs), categorical_log_likelihood(outputs, optimizer.generator))

    with pytest.raises(ValueError, match="rows=None: an Objective must say how many rows its log_likelihood is"):
        optimizer.minimize(objective, np.ones((2, 5), "float32"))


def test_a_file_of_an_optimizer_with_other_arguments(tmp_path):
    model, other = classifier(), classifier()
    model.compile("kfac", "mse")
    other.compile(Kfac(other, form="eigen"), "mse")
    model.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="the file's Kfac is that of another model or has other arguments"):
        other.load_weights(tmp_path / "model.weights.h5")


def test_there_are_at_least_forty():
    assert len(ARGUMENTS) >= 36
    assert issubclass(UnsupportedLayerError, TypeError)


def test_zero_says_the_same_as_none():
    config = Kfac(classifier(), damping_interval=0, max_sites=0, form=EigenForm(0)).get_config()
    assert (config["damping_interval"], config["max_sites"], config["form"]) == (None, None, {"rank": None})
    assert Kfac.from_config(config, classifier()).get_config() == config
