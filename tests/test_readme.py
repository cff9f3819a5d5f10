import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

README = (Path(__file__).parents[1] / "README.md").read_text()
OPTIMIZER = README[README.index("## The optimizer alone") :]
SNIPPETS = re.findall(r"```python\n(.*?)```", OPTIMIZER, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["fit", "loop"])
def test_the_optimizer_learns_digits_as_written(snippet):
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    names = {"images": images, "labels": labels, "batches": [(images, labels)] * 40}
    exec(snippet, names)
    assert np.mean(names["model"].predict(images, verbose=0).argmax(axis=1) == labels) > 0.95
