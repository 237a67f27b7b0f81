"""The script for a machine with a GPU, on this one's CPU and at sizes that are done in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rnncond import systems

ROOT = Path(__file__).parents[2]


def test_every_part_is_tried_and_written(tmp_path):
    script = [sys.executable, "benchmarks/gpu_check.py", "--device", "cpu", "--tiny"]
    environment = os.environ | {"OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert set(found["training"]) == set(found["decoding"]) == set(systems.names())
    for system in systems.names():
        assert found["training"][system]["teraflop_of_a_step"] > 0
        assert found["training"][system]["eager"]["words_per_second"] > 0
        assert all(
            found["decoding"][system][f"{kind}, beam 5, sentences_per_second"] for kind in ("float32", "bfloat16")
        )
    assert found["features"]["images_per_second"] > 0
    assert found["laws"]["held"] >= 9 and not found["laws"]["broken"] and not found["laws"]["not_tried"]


def test_without_a_gpu_it_says_so():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_check.py"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "no GPU" in done.stderr and "Traceback" not in done.stderr
