"""What the command line says where it ends early or goes astray: warnings, Ctrl-C, mistakes, narrow terminals."""

from __future__ import annotations

import numpy as np
import pytest

import pyfirstorder as fo

typer_testing = pytest.importorskip("typer.testing", reason="the command line needs typer")
import typer  # noqa: E402

from pyfirstorder import blockwise, cli  # noqa: E402
from pyfirstorder.experiments import command as reproduction  # noqa: E402
from pyfirstorder.training import command as training  # noqa: E402

COMMANDS = typer.main.get_command(cli.make_app()).commands


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of 0 to 1 and the same of 0 to 16, in files, and a network for them."""
    folder = tmp_path_factory.mktemp("endings")
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 16)), rng.integers(0, 3, 60)
    np.savez(folder / "unit.npz", x=x, y=y)
    np.savez(folder / "sixteen.npz", x=np.rint(16 * x), y=y)
    np.savez(folder / "other.npz", x=x[:, :9], y=y)
    weights = rng.standard_normal((8, 16)), rng.standard_normal((3, 8))
    fo.TwoLayerNetwork(*weights, activation="tanh").save(folder / "net.npz")
    return folder


def run(*arguments, columns=80):
    runner = typer_testing.CliRunner(env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})
    return runner.invoke(cli.make_app(), [str(argument) for argument in arguments])


def train(files, out, *arguments):
    fixed = ["--hidden", 4, "--activation", "tanh", "--epochs", 1, "-o", out / "net.npz"]
    return run("train", files / "unit.npz", *fixed, *arguments)


def attack(files, out, *arguments, data="unit.npz", eps="0.1,0.3", net=None):
    fixed = ["--eps", eps, "--steps", 5, "--output", out]
    return run("attack", net or files / "net.npz", files / data, *fixed, *arguments)


def last_line(done, code=2):
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done.output.splitlines()[-1]


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("command", ["attack", "train"])
def test_what_is_warned_of_is_a_line_without_source_and_said_once(files, tmp_path, command):
    box = ["--bounds", "0,1"]
    if command == "attack":
        done, option = attack(files, tmp_path, *box, "--block-size", 7, eps="4,8"), "--eps"
    else:
        done, option = train(files, tmp_path, *box, "--adversarial-eps", 8), "--adversarial-eps"
    assert done.exit_code == 0, done.output
    warned = [line for line in done.output.splitlines() if "warn" in line.lower() and "wrote" not in line]
    assert len(warned) == 1
    assert warned[0].startswith(f"warning: {option}: every point of the box [0, 1] is within 8, ")
    assert warned[0].endswith(f"8 grey levels of 255 are {option}=8/255, and the box alone is {option}=1")


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_says_that_the_same_attack_goes_on(files, tmp_path, monkeypatch):
    keep, kept = blockwise.Sweep._count, []

    def count(sweep, *arguments):
        kept.append(arguments)
        if len(kept) > 2:  # in the second block of two radii
            raise KeyboardInterrupt
        keep(sweep, *arguments)

    with monkeypatch.context() as change:
        change.setattr(blockwise.Sweep, "_count", count)
        done = attack(files, tmp_path, "--block-size", 20)
    assert last_line(done, 130) == "interrupted; 20 of 60 samples are done; the same command goes on"
    assert "going on after 20 of 60 samples" in attack(files, tmp_path, "--block-size", 20).output


def test_ctrl_c_says_how_training_goes_on(files, tmp_path, monkeypatch):
    with monkeypatch.context() as change:
        change.setattr(training.training, "train", interrupt)
        assert last_line(train(files, tmp_path), 130).startswith("interrupted; the same command begins anew")
    with monkeypatch.context() as change:
        change.setattr(training, "_state", interrupt)  # as the first epoch ends
        assert last_line(train(files, tmp_path), 130) == "interrupted; the same command goes on"
        done = train(files, tmp_path, "--overwrite")
        assert last_line(done, 130) == "interrupted; the same command without --overwrite goes on"
    assert "after 1 epoch, 1 of them in a run before: loss" in train(files, tmp_path).output


def test_ctrl_c_says_how_a_reproduction_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "perform", interrupt)
    command = ["reproduce", "--quick", "--output", tmp_path]
    assert last_line(run(*command), 130) == "interrupted; the same command goes on"
    done = run(*command, "--overwrite")
    assert last_line(done, 130) == "interrupted; the same command without --overwrite goes on"


def test_ctrl_c_elsewhere_is_said_as_well(monkeypatch):
    monkeypatch.setattr(fo, "show_config", interrupt)
    assert last_line(run("info"), 130) == "interrupted"


def test_training_says_what_it_is_against(files, tmp_path):
    plain = train(files, tmp_path, "--overwrite").output
    assert "training plainly; --adversarial-eps trains against an adversary" in plain
    assert "after 1 epoch: loss" in plain
    assert "no bounds" not in plain
    options = ["--adversarial-eps", "8/255", "--adversarial-steps", 1, "--bounds", "0,1", "--overwrite"]
    assert "training against pgd of linf radius 0.03137 in [0, 1], 1 step from a random start" in (
        train(files, tmp_path, *options).output
    )


def test_numbers_without_bounds_are_told_their_box(files, tmp_path):
    against = ["--adversarial-eps", 1, "--hidden", 4, "--epochs", 1, "-o", tmp_path / "net.npz"]
    for done in (run("train", files / "sixteen.npz", *against), attack(files, tmp_path / "a", data="sixteen.npz")):
        assert "lie in [0, 16], and --bounds 0,16 would keep them in a box" in done.output
    assert "--bounds 0,1 would keep" in attack(files, tmp_path / "b").output
    assert "x / 16" in last_line(attack(files, tmp_path / "c", "--bounds", "0,1", data="sixteen.npz"))


def test_images_that_are_dark_after_the_division_are_told_what_fits_them(files, tmp_path):
    with np.load(files / "sixteen.npz") as stored:
        x, y = stored["x"], stored["y"]
    np.savez(tmp_path / "bytes.npz", x=x.astype(np.uint8), y=y)
    np.savez(tmp_path / "full.npz", x=(15 * x).astype(np.uint8), y=y)
    np.savez(tmp_path / "wide.npz", x=x.astype(int), y=y)
    small = ["--hidden", 4, "--epochs", 1, "-o", tmp_path / "net.npz", "--overwrite"]
    told = "note: those here are at most 16, so at most 0.0627 after that; store x / 16 as floats"
    assert told in run("train", tmp_path / "bytes.npz", *small).output
    assert told in attack(tmp_path, tmp_path / "a", data="bytes.npz", net=files / "net.npz").output
    assert "note" not in run("train", tmp_path / "full.npz", *small).output
    line = last_line(run("train", tmp_path / "wide.npz", *small))
    assert line.endswith("got int64; to have numbers in [0, 1] store x / 16")


def test_no_empty_line_is_left_of_a_bar_where_there_is_no_terminal(files, tmp_path):
    assert "" not in train(files, tmp_path).output.splitlines()


def test_a_checkpoint_of_another_job_is_refused_with_the_option_that_replaces_it(files, tmp_path, monkeypatch):
    with monkeypatch.context() as change:
        change.setattr(training, "_state", interrupt)
        assert train(files, tmp_path).exit_code == 130
    line = last_line(train(files, tmp_path, "--batch-size", 7))
    assert line.startswith("error: --checkpoint: expected that of this job, got ")
    assert line.endswith(
        "of one that differs in --batch-size; choose another checkpoint, or add --overwrite to begin anew"
    )
    assert train(files, tmp_path, "--batch-size", 7, "--overwrite").exit_code == 0


def test_arguments_are_checked_before_the_folder_of_the_output(files, tmp_path):
    assert attack(files, tmp_path).exit_code == 0
    for option, value in (("--steps", -1), ("--norm", "l3"), ("--loss", "ce"), ("--algorithm", "fgsm")):
        assert last_line(attack(files, tmp_path, option, value)).startswith(f"error: {option}: expected")


def test_data_of_another_size_is_named_beside_the_network(files, tmp_path):
    line = last_line(attack(files, tmp_path, data="other.npz"))
    assert line.startswith(
        "error: data: expected samples of 16 numbers for TwoLayerNetwork(16 -> 8 tanh -> 3, float64)"
    )
    assert line.endswith("other.npz: 60 samples of 9 numbers")


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_in_full(command, columns):
    done = run(command, "--help", columns=columns)
    assert done.exit_code == 0
    assert "…" not in done.output
    for parameter in COMMANDS[command].params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert name in done.output
    listed = " ".join(run("--help", columns=columns).output.split())
    assert COMMANDS[command].help.splitlines()[0] in listed


def test_the_table_of_restarts_fits_a_terminal_and_says_how_many_starts_there_are(files, tmp_path):
    done = attack(files, tmp_path, "--random-start", "--restarts", 3, eps="0.01,0.12345,0.3")
    assert "at most 5 steps from each of 3 starts" in done.output
    assert "…" not in done.output
    assert "15.0" in done.output
    assert "at most 5 steps " in attack(files, tmp_path, "--overwrite").output


@pytest.mark.parametrize("option", ["--adversarial-steps", "--adversarial-rel-step-size", "--adversarial-norm"])
def test_arguments_of_the_adversary_are_called_by_their_options(files, tmp_path, option):
    done = train(files, tmp_path, "--adversarial-eps", 0.1, option, -1)
    assert last_line(done).startswith(f"error: {option}: expected")
