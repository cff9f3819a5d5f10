import re

import numpy as np
import pytest
from repository import ROOT
from sklearn.datasets import load_digits

README = (ROOT / "README.md").read_text()
OPTIMIZER = README[README.index("## The optimizer alone") :]
SNIPPETS = re.findall(r"```python\n(.*?)```", OPTIMIZER, re.DOTALL)


def test_training_and_playing_in_python_work_as_written(tmp_path, monkeypatch, capsys):
    """With a game that is quick, and little of it."""
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    for written, quick in (("PongNoFrameskip-v4", "CartPole-v1"), ('"cnn"', '"mlp"'), ("2_000_000", "1_280")):
        assert written in snippet
        snippet = snippet.replace(written, quick)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {"__name__": "__main__"})
    assert capsys.readouterr().out.count("episode ") == 3
    assert (tmp_path / "models" / "pong").exists() and (tmp_path / "logs" / "pong" / "progress.csv").exists()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["fit", "loop"])
def test_the_optimizer_learns_digits_as_written(snippet):
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    names = {"images": images, "labels": labels, "batches": [(images, labels)] * 40}
    exec(snippet, names)
    assert np.mean(names["model"].predict(images, verbose=0).argmax(axis=1) == labels) > 0.95
