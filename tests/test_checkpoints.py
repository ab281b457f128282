"""Checkpoints of training: the same bits after any interruption, and nothing of another job."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import checkpoints, files
from pyfirstorder.training import train


class StoppedError(Exception):
    """What ends a training early."""


def samples(count: int = 40, features: int = 5, classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, features)).astype(np.float32), rng.integers(0, classes, count)


OPTIONS = {
    "hidden_features": 7,
    "epochs": 3,
    "batch_size": 8,  # five mini-batches in an epoch
    "adversary": {"eps": 0.1, "steps": 2, "random_start": True},
    "weight_decay": 0.01,
}
SETTINGS = {
    "adam": {"optimizer": "adam"},
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05},
    "float64": {"dtype": np.float64},
    "first layer": {"trained": "first"},
}


def stop_after(share: float):
    """A progress function that ends the training there."""

    def progress(done: float) -> None:
        if done >= share:
            raise StoppedError

    return progress


def same(one, other) -> bool:
    weights = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in weights)


def without_seconds(history):
    return [epoch[:-1] for epoch in history]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("every", [1, 2, None], ids=["each mini-batch", "every second", "each epoch"])
def test_training_that_was_stopped_ends_with_the_same_bits(tmp_path, settings, every):
    x, y = samples()
    options = {**OPTIONS, **settings, "validation": samples(seed=1)}
    straight = train(x, y, **options)
    kept = {"checkpoint": tmp_path / "c.npz", "checkpoint_every": every}
    for share in (0.1, 0.25, 0.25, 0.5, 0.7, 0.95):
        with pytest.raises(StoppedError):
            train(x, y, **options, **kept, progress=stop_after(share))
    resumed = train(x, y, **options, **kept)
    assert same(resumed.network, straight.network)
    assert without_seconds(resumed.history) == without_seconds(straight.history)


def test_a_finished_training_is_not_done_again(tmp_path):
    x, y = samples()
    first = train(x, y, **OPTIONS, checkpoint=tmp_path / "c.npz")
    before = (tmp_path / "c.npz").read_bytes()
    seen = []
    again = train(x, y, **OPTIONS, checkpoint=tmp_path / "c.npz", on_epoch=seen.append, progress=seen.append)
    assert not seen
    assert same(again.network, first.network)
    assert again.history == first.history
    assert (tmp_path / "c.npz").read_bytes() == before


def test_more_epochs_go_on_from_the_end_of_fewer(tmp_path):
    x, y = samples()
    train(x, y, **OPTIONS, checkpoint=tmp_path / "c.npz")
    longer = {**OPTIONS, "epochs": 6}
    seen = []
    resumed = train(x, y, **longer, checkpoint=tmp_path / "c.npz", on_epoch=seen.append)
    assert len(seen) == 3
    assert same(resumed.network, train(x, y, **longer).network)
    with pytest.raises(ValueError, match=r"epochs: expected at least the 6 that .*c\.npz has begun, got 2"):
        train(x, y, **{**OPTIONS, "epochs": 2}, checkpoint=tmp_path / "c.npz")


def other_sample(arguments):
    x = arguments["x"].copy()
    x[3, 1] += 1e-6
    arguments["x"] = x


def other_target(arguments):
    arguments["y"] = (arguments["y"] + (np.arange(40) == 39)) % 3


CHANGES = {
    "x": (other_sample, "data"),
    "y": (other_target, "data"),
    "validation": (lambda a: a.update(validation=samples(seed=1)), "validation"),
    "hidden_features": (lambda a: a.update(hidden_features=8), "hidden_features"),
    "seed": (lambda a: a.update(seed=1), "seed"),
    "several": (lambda a: a.update(batch_size=9, learning_rate=1e-2), "batch_size and learning_rate"),
    "radius": (lambda a: a.update(adversary={**a["adversary"], "eps": 0.2}), "adversary"),
    "no adversary": (lambda a: a.update(adversary=None), "adversary"),
    "trained": (lambda a: a.update(trained="first"), "trained"),
    "biases": (lambda a: a.update(biases=False), "biases"),
    "dtype": (lambda a: a.update(dtype=np.float64), "data and dtype"),
    "backend": (lambda a: a.update(backend="reference"), "backend"),
    "l2_penalty": (lambda a: a.update(l2_penalty=0.1), "l2_penalty"),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES.keys())
def test_a_checkpoint_of_another_job_is_refused_by_what_differs(tmp_path, change, named):
    if fo.available_backends()["cpu"] != "available" and named == "backend":
        pytest.skip("reference is the only other backend")
    x, y = samples()
    train(x, y, **{**OPTIONS, "epochs": 1}, checkpoint=tmp_path / "c.npz")
    before = (tmp_path / "c.npz").read_bytes()
    arguments = {"x": x, "y": y, **OPTIONS, "checkpoint": tmp_path / "c.npz"}
    change(arguments)
    with pytest.raises(ValueError, match=rf"checkpoint: expected that of this job.*differs in {named}; choose another"):
        train(arguments.pop("x"), arguments.pop("y"), **arguments)
    assert (tmp_path / "c.npz").read_bytes() == before


def test_a_checkpoint_of_another_starting_network_is_refused(tmp_path):
    x, y = samples()
    options = {name: value for name, value in OPTIONS.items() if name != "hidden_features"}
    rng = np.random.default_rng(0)
    nets = [fo.TwoLayerNetwork(rng.standard_normal((7, 5)), rng.standard_normal((3, 7))) for _ in range(2)]
    train(x, y, network=nets[0], **options, checkpoint=tmp_path / "c.npz")
    with pytest.raises(ValueError, match="differs in network"):
        train(x, y, network=nets[1], **options, checkpoint=tmp_path / "c.npz")


def test_threads_and_the_kind_of_a_number_are_no_other_job(tmp_path):
    x, y = samples()
    straight = train(x, y, **OPTIONS, threads=2)
    train(x, y, **{**OPTIONS, "epochs": 1}, threads=1, checkpoint=tmp_path / "c.npz")
    spelled = {**OPTIONS, "seed": np.int64(0), "adversary": {**OPTIONS["adversary"], "eps": np.float64(0.1)}}
    assert same(train(x, y, **spelled, threads=2, checkpoint=tmp_path / "c.npz").network, straight.network)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 and no more"], ids=["empty", "text", "truncated"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.npz: expected a whole \.npz file"):
        train(*samples(), **OPTIONS, checkpoint=tmp_path / "c.npz")


def test_a_network_is_no_checkpoint(tmp_path):
    fo.random_network(5, 7).save(tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"net\.npz, which is of none; choose another checkpoint"):
        train(*samples(), **OPTIONS, checkpoint=tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"checkpoint": "c.txt"}, ValueError, "checkpoint: expected a file ending in .npz"),
        ({"checkpoint": "none/c.npz"}, ValueError, "checkpoint: expected a file in a folder that exists"),
        ({"checkpoint": "c.npz", "checkpoint_every": 0}, ValueError, "checkpoint_every: .*got 0"),
        ({"checkpoint": "c.npz", "checkpoint_every": 0.5}, TypeError, "checkpoint_every: expected an integer"),
    ],
)
def test_training_refuses_checkpoints(tmp_path, monkeypatch, change, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        train(*samples(), **OPTIONS, **change)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    x, y = samples()
    path = tmp_path / "c.npz"
    train(x, y, **{**OPTIONS, "epochs": 1}, checkpoint=path)
    before = path.read_bytes()

    def fail(stream, **arrays):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail)
        with pytest.raises(OSError, match=r"No space left on device: '.*c\.npz'"):
            train(x, y, **OPTIONS, checkpoint=path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["c.npz"]
    assert same(train(x, y, **OPTIONS, checkpoint=path).network, train(x, y, **OPTIONS).network)


def test_the_same_arrays_are_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    arrays = {"a": np.arange(3), "b": np.ones((2, 2))}
    files.write_npz(tmp_path / "now.npz", arrays)
    monkeypatch.setattr("time.time", lambda: 1e9)
    files.write_npz(tmp_path / "then.npz", arrays)
    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "then.npz").read_bytes()


def test_a_digest_knows_numbers_shapes_and_types():
    base = np.arange(6.0)
    others = [base + 1, base.reshape(2, 3), base.astype(np.float32), base[::-1], np.empty(0)]
    assert len({checkpoints.digest([array]) for array in (base, *others)}) == 6
    assert checkpoints.digest([base]) == checkpoints.digest([np.repeat(base, 2)[::2]])
    assert checkpoints.digest([base, base]) != checkpoints.digest([base])
