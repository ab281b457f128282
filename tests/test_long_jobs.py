"""Long jobs survive being killed at any moment, and a full disk: the same command again ends with the same bytes."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyfirstorder as fo

for needed in ("typer", "rich", "matplotlib", "scipy"):
    pytest.importorskip(needed, reason="the commands need it")
pytest.importorskip("resource", reason="jobs are forked and limited as POSIX does")

SAMPLES, FEATURES, CLASSES = 48, 16, 3
RANDOM_KILLS = 20  # of each kind of job, at least
STRIDE = 3  # of the moments that are tried one after the other
TRAIN = [
    *("--hidden", "8", "--epochs", "2", "--batch-size", "16", "--checkpoint-every", "2", "--adversarial-eps", "0.1"),
    *("--adversarial-steps", "2", "--threads", "1"),
]
ATTACK = ["--eps", "0.05,0.2", "--steps", "3", "--random-start", "--block-size", "16", "--threads", "1"]
REPRODUCE = ["landscape", "--quick", "--threads", "1"]
INPUTS = ("data.npz", "net.npz", "x.npy", "y.npy")
JOBS = ("train", "attack", "attack of a file", "reproduce")
# What tells seconds is another file each time: the results of experiments, cell by cell, and the table of their times.
TIMED = re.compile(r"(out/\.cells/landscape-.*|.*times.*)")


class Server:
    """See `job_server`."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("job_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command, folder, **how):
        """One command, and what became of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"command": command, "folder": str(folder), **how}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    """One for all tests: to import the package takes longer than a job."""
    made = Server()
    yield made
    with made.process:
        made.process.stdin.close()
        made.process.wait(timeout=20)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Data in memory and on the disk, and a network to attack."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    x, y = rng.random((SAMPLES, FEATURES), dtype=np.float32), rng.integers(0, CLASSES, SAMPLES)
    np.savez(folder / "data.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    fo.TwoLayerNetwork(rng.standard_normal((8, FEATURES)), rng.standard_normal((CLASSES, 8))).save(folder / "net.npz")
    return folder


def command_of(job, inputs, folder, *more):
    """A command whose results go into the folder."""
    words = {
        "train": ["train", "data.npz", *TRAIN, "--output", f"{folder}/net.npz", "--history", f"{folder}/h.csv"],
        "attack": ["attack", "net.npz", "data.npz", *ATTACK, "--output", f"{folder}/out"],
        "attack of a file": ["attack", "net.npz", "x.npy", "--labels", "y.npy", *ATTACK, "--output", f"{folder}/out"],
        "reproduce": ["reproduce", *REPRODUCE, "--output", f"{folder}/out"],
    }[job]
    return [f"{inputs}/{word}" if word in INPUTS else word for word in (*words, *more)]


def contents(folder):
    """All files, hidden ones and forgotten ones among them, and their bytes, but for files that tell seconds."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: b"" if TIMED.fullmatch(name) else content for name, content in found.items()}


@pytest.fixture(scope="module")
def straight(server, inputs, tmp_path_factory):
    """What each job ends with when nothing comes between, and its seconds."""
    found = {}
    for job in JOBS:
        folder = tmp_path_factory.mktemp("straight")
        done = server.run(command_of(job, inputs, folder), folder)
        assert done["code"] == 0, done["said"]
        found[job] = contents(folder), done["seconds"]
    return found


def anew(tmp_path):
    """An empty folder, always of the same name."""
    folder = tmp_path / "results"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("job", JOBS)
def test_a_job_killed_at_random_moments_ends_with_the_same_bytes(server, inputs, straight, tmp_path, job):
    expected, seconds = straight[job]
    moment, kills = random.Random(job), 0
    while kills < RANDOM_KILLS:
        folder = anew(tmp_path)
        while True:
            done = server.run(command_of(job, inputs, folder), folder, kill_after=moment.uniform(0, 1.2 * seconds))
            if not done["killed"]:
                break
            kills += 1
        assert done["code"] == 0, done["said"]
        assert contents(folder) == expected


@pytest.mark.parametrize("job", JOBS)
def test_a_job_killed_before_a_change_of_a_file_ends_with_the_same_bytes(server, inputs, straight, tmp_path, job):
    event = JOBS.index(job) + 1
    while True:
        folder = anew(tmp_path)
        if not server.run(command_of(job, inputs, folder), folder, kill_at=event)["killed"]:
            break
        done = server.run(command_of(job, inputs, folder), folder)
        assert done["code"] == 0, done["said"]
        assert contents(folder) == straight[job][0], f"killed at event {event}"
        event += STRIDE
    assert event > 20, "the job changes more files than that"


@pytest.mark.parametrize("job", JOBS)
def test_a_disk_that_is_full_from_any_moment_on_is_said_and_nothing_is_lost(server, inputs, straight, tmp_path, job):
    event, failures = 1, 0
    while True:
        event += 2 * STRIDE
        folder = anew(tmp_path)
        done = server.run(command_of(job, inputs, folder), folder, full_at=event)
        if done["code"] == 0:
            break
        failures += 1
        assert done["code"] == 2, done["said"]
        assert "error: [Errno 27] File too large" in done["said"]
        assert str(folder) in done["said"], "which file could not be written"
        again = server.run(command_of(job, inputs, folder), folder)
        assert again["code"] == 0, again["said"]
        assert contents(folder) == straight[job][0], f"full from event {event} on"
    assert failures > 2


@pytest.mark.parametrize("job", JOBS)
def test_what_was_done_before_is_not_done_again(server, inputs, tmp_path, job):
    folder = anew(tmp_path)
    command = command_of(job, inputs, folder)
    last = {"train": "h.csv", "reproduce": "landscape.csv"}.get(job, "table.csv")
    assert server.run(command, folder, kill_at=last)["killed"]
    cells = {path: path.stat().st_mtime_ns for path in folder.glob("out/.cells/landscape-*")}
    done = server.run(command, folder)
    if job == "reproduce":
        assert len(cells) == 5
        assert {path: path.stat().st_mtime_ns for path in cells} == cells
    elif job != "train":
        assert f"going on after {SAMPLES} of {SAMPLES} samples" in done["said"]
    else:
        assert "after 2 epochs, 2 of them in a run before" in " ".join(done["said"].split())


OTHER = {
    "train": (["--seed", "1"], "checkpoint: expected that of this job"),
    "attack": (["--seed", "1"], "output: expected that of this job"),
    "attack of a file": (["--steps", "4"], "output: expected that of this job"),
    "reproduce": (["--seed", "1"], "holds a report that differs in seed; add --overwrite, or another output"),
}


@pytest.mark.parametrize("job", JOBS)
def test_an_unfinished_job_with_other_settings_is_refused_and_stays(server, inputs, tmp_path, job):
    folder = anew(tmp_path)
    command = command_of(job, inputs, folder)
    last = {"train": "net.npz", "reproduce": "landscape.csv"}.get(job, "adversarial.npz")
    assert server.run(command, folder, kill_at=last)["killed"]
    before = contents(folder)
    change, message = OTHER[job]
    refused = server.run(command_of(job, inputs, folder, *change), folder)
    assert refused["code"] == 2
    assert message in " ".join(refused["said"].split())
    assert contents(folder) == before
    replaced = server.run(command_of(job, inputs, folder, *change, "--overwrite"), folder)
    assert replaced["code"] == 0, replaced["said"]
    other = tmp_path / "other" / "results"
    other.mkdir(parents=True)
    assert server.run(command_of(job, inputs, other, *change), other)["code"] == 0
    assert contents(folder) == contents(other)


def test_an_unfinished_attack_of_other_data_or_another_network_is_refused(server, inputs, tmp_path):
    mine = tmp_path / "inputs"
    shutil.copytree(inputs, mine)
    folder = anew(tmp_path)
    command = command_of("attack of a file", mine, folder)
    assert server.run(command, folder, kill_at="x_adv_eps_0.2.npy")["killed"]
    x = np.load(mine / "x.npy")
    np.save(mine / "x.npy", x + np.float32(1e-6))
    assert "one that differs in samples;" in " ".join(server.run(command, folder)["said"].split())
    np.save(mine / "x.npy", x)
    fo.TwoLayerNetwork(np.ones((8, FEATURES)), np.ones((CLASSES, 8))).save(mine / "net.npz")
    assert "one that differs in weights;" in " ".join(server.run(command, folder)["said"].split())
    shutil.copy(inputs / "net.npz", mine)
    assert server.run(command, folder)["code"] == 0


def test_pictures_are_the_same_bytes_after_a_kill(server, inputs, tmp_path):
    found = []
    for kill in (None, "examples.png"):
        folder = anew(tmp_path)
        command = command_of("attack", inputs, folder, "--image-shape", "4,4")
        if kill is not None:
            assert server.run(command, folder, draw=True, kill_at=kill)["killed"]
        assert server.run(command, folder, draw=True)["code"] == 0
        found.append(contents(folder))
    assert found[0] == found[1]
    assert {"out/accuracy.png", "out/examples.png"} <= set(found[0])
