"""The stream of batches after `kill -9` and a restart is that of a run without interruption, byte for byte."""

import hashlib
import itertools
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vit_jax import data

BATCH, KILLED, END = 6, 4, 9
STREAM = """
import hashlib, json, os, signal, sys
from vit_jax import data

def main():
    options, rows, start, stop = json.loads(sys.argv[1])
    batches = data.open(data.Spec(**options)).batches({batch}, start_step=start, rows=rows)
    for step, batch in enumerate(batches, start):
        if step == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        digests = [hashlib.sha256(batch[key].tobytes()).hexdigest() for key in sorted(batch)]
        print(json.dumps(digests), flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def spec(tmp_path):
    """Returns the options of a spec: 21 JPEGs of 2 classes, of several sizes, cropped at random."""
    random = np.random.default_rng(0)
    for number in range(21):
        place = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40 + number, 50, 3), np.uint8)).save(place)
    return {"name": "folder", "data_dir": str(tmp_path / "images"), "crop": "inception", "size": [16, 16], "seed": 3}


@pytest.mark.parametrize(
    ("workers", "processes"),
    [(1, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(4, 1), (1, 2), (4, 2)])],
)
def test_after_kill_minus_nine(spec, tmp_path, workers, processes):
    script = tmp_path / "stream.py"
    script.write_text(STREAM.replace("{batch}", str(BATCH)))
    shares = np.split(np.arange(BATCH), processes)
    with data.open(data.Spec(**spec, threads=1)) as dataset:
        whole = list(itertools.islice(dataset.batches(BATCH), END))
    for rows in shares:
        expected = [[hashlib.sha256(b[key][rows].tobytes()).hexdigest() for key in sorted(b)] for b in whole]
        found = []
        for start, stop in ((0, KILLED), (KILLED, END)):
            arguments = json.dumps([{**spec, "workers": workers}, rows.tolist(), start, stop])
            done = subprocess.run([sys.executable, script, arguments], capture_output=True, text=True, check=False)
            assert done.returncode == -signal.SIGKILL, done.stderr
            found += map(json.loads, done.stdout.splitlines())
        assert found == expected


def test_an_epoch_has_every_example_once(spec):
    with data.open(data.Spec(**spec)) as dataset:
        seen = np.concatenate([batch["index"] for batch in itertools.islice(dataset.batches(7), 6)])
    for epoch in np.split(seen, 2):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(21))
