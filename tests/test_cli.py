"""The command line, through its own entry: info, train, attack."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import pyfirstorder as fo
from pyfirstorder import training

typer_testing = pytest.importorskip("typer.testing", reason="the command line needs typer")
from pyfirstorder import cli  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small data set and a network that was trained on it."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    x = np.clip(0.1 * rng.standard_normal((90, 16)) + 0.5 + 0.3 * np.eye(3, 16)[y], 0, 1).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=y)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    options = {"--hidden": 12, "--epochs": 60, "--batch-size": 16, "--learning-rate": 0.02, "-o": folder / "net.npz"}
    done = run("train", folder / "data.npz", *(word for option in options.items() for word in option))
    assert done.exit_code == 0, done.output
    return folder


def run(*arguments):
    return typer_testing.CliRunner().invoke(cli.make_app(), [str(argument) for argument in arguments])


def test_info_names_the_version_and_every_backend():
    done = run("info")
    assert done.exit_code == 0
    assert fo.__version__ in done.output
    for name in fo.available_backends():
        assert f"backend {name}" in done.output


def test_info_shows_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setattr(fo, "show_config", lambda: {"backend": "pip install pyfirstorder[numba]"})
    assert "pyfirstorder[numba]" in run("info").output


def test_train_writes_a_network_that_classifies(files):
    net = fo.load_network(files / "net.npz")
    with np.load(files / "data.npz") as data:
        assert np.mean(fo.predict(net, data["x"]) == data["y"]) > 0.9


def test_attack_prints_a_table_and_writes_examples_and_pictures(files, tmp_path):
    out = tmp_path / "out"
    done = run(
        "attack", files / "net.npz", files / "data.npz", "--eps", "0.05,0.2,0.4", "--steps", 10, "--bounds", "0,1",
        "--image-shape", "4,4", "--output", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for header in ("eps", "clean", "robust", "accuracy", "mean loss", "mean", "steps", "a second"):
        assert header in done.output
    assert {path.name for path in out.iterdir()} == {"adversarial.npz", "table.csv", "accuracy.png", "examples.png"}
    with np.load(out / "adversarial.npz") as result, np.load(files / "data.npz") as data:
        assert result["x_adv"].shape == (3, 90, 16)
        assert (np.diff(result["withstood"]) <= 0).all()
        distance = np.abs(result["x_adv"].astype(np.float64) - data["x"]).max(axis=(1, 2))
        assert (distance <= [0.05, 0.2, 0.4]).all()
        net = fo.load_network(files / "net.npz")
        for x_adv, success in zip(result["x_adv"], result["success"], strict=True):
            np.testing.assert_array_equal(fo.predict(net, x_adv) != data["y"], success)


def test_blocks_give_what_one_call_gives(files, tmp_path):
    results = []
    for name, block in (("one", 90), ("many", 7)):
        done = run(
            "attack", files / "net.npz", files / "data.npz", "--eps", "0.1,0.2", "--steps", 8, "--random-start",
            "--restarts", 2, "--block-size", block, "--output", tmp_path / name,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        with np.load(tmp_path / name / "adversarial.npz") as file:
            results.append({key: file[key] for key in file.files})
    for key, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][key], err_msg=key)


def test_data_on_disk_is_attacked_into_files_on_disk(files, tmp_path):
    done = run(
        "attack", files / "net.npz", files / "x.npy", "--labels", files / "y.npy", "--eps", "0.1", "--steps", 3,
        "--block-size", 8, "--output", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    x_adv = np.load(tmp_path / "x_adv_eps_0.1.npy", mmap_mode="r")
    assert x_adv.shape == (90, 16)
    assert np.abs(x_adv.astype(np.float64) - np.load(files / "x.npy")).max() <= 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eps", "0.2,0.1"], "increasing"),
        (["--eps", "a"], "expected numbers"),
        (["--eps", "0.1", "--norm", "l3"], "norm: expected"),
        (["--eps", "0.1", "--backend", "fast"], "backend: expected"),
        (["--eps", "0.1", "--bounds", "0.9,1"], "within bounds"),
        (["--eps", "0.1", "--limit", "-1"], "limit: expected"),
        (["--eps", "0.1", "--image-shape", "3,3"], "--image-shape: expected"),
        (["--eps", "0.1", "--image-shape", "-4,-4"], "--image-shape: expected"),
        (["--eps", "0.1", "--image-shape", "4.0,4"], "--image-shape: expected"),
        (["--eps", "0.1", "--image-shape", "inf,4"], "--image-shape: expected"),
        (["--eps", "0.1", "--image-shape", "2,4,2"], "--image-shape: expected"),
        (["--eps", "0.1", "--restarts", "2"], "restarts: expected 1 without a random start"),
        (["--eps", "0.1", "--seed", "-1"], "seed: expected"),
        (["--eps", "0.1", "--seed", "-1", "--held-out", "0.5"], "seed: expected"),
        (["--eps", "0.1", "--held-out", "0"], "data: expected at least one sample to attack"),
    ],
)
def test_a_mistake_is_one_line_without_traceback(files, tmp_path, arguments, message):
    out = tmp_path / "new" / "out"
    done = run("attack", files / "net.npz", files / "data.npz", *arguments, "--output", out)
    assert message in error_line(done)
    assert not out.parent.exists()


def error_line(done) -> str:
    """The last line of a command that ended with an error, and without a traceback."""
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    line = done.output.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def changed(path, change, to):
    """A copy of a data set with a change in its arrays."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(to, **arrays)
    return to


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("x", np.nan, "x: expected finite numbers"), ("y", 9, "y: expected class indices from 0 to 2, got 9")],
)
@pytest.mark.parametrize("part", [[], ["--held-out", "0.8"]], ids=["all", "held out"])
def test_a_mistake_in_the_data_is_named_by_its_row_in_the_file(files, tmp_path, name, value, message, part):
    def spoil(arrays):
        arrays[name][70] = value

    data = changed(files / "data.npz", spoil, tmp_path / "bad.npz")
    out = tmp_path / "out"
    done = run("attack", files / "net.npz", data, "--eps", "0.1", "--block-size", 16, *part, "--output", out)
    assert message in error_line(done)
    assert re.search(r"row 70\b", error_line(done))
    assert not out.exists()


def test_an_attack_does_not_overwrite_what_it_reads(files, tmp_path):
    data = changed(files / "data.npz", lambda arrays: None, tmp_path / "adversarial.npz")
    before = data.read_bytes()
    done = run("attack", files / "net.npz", data, "--eps", "0.1", "--output", tmp_path)
    assert "output: expected a place of its own" in error_line(done)
    assert data.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("net.txt", "expected a file ending in .npz"),
        ("none/net.npz", "expected a file in a folder that exists"),
        ("folder.npz", "expected a file, got the folder"),
    ],
)
def test_where_a_network_goes_is_checked_before_training(files, tmp_path, monkeypatch, output, message):
    (tmp_path / "folder.npz").mkdir()
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("it was trained"))
    line = error_line(run("train", files / "data.npz", "-o", tmp_path / output))
    assert f"output: {message}" in line
    assert str(tmp_path / output) in line


def test_training_on_nothing_is_a_clear_line(files, tmp_path):
    def empty(arrays):
        arrays.update(x=arrays["x"][:0], y=arrays["y"][:0])

    data = changed(files / "data.npz", empty, tmp_path / "none.npz")
    line = error_line(run("train", data, "-o", tmp_path / "net.npz"))
    assert "data: expected at least one sample to train on, got none" in line


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 and no more"], ids=["empty", "text", "truncated"])
def test_a_damaged_file_is_one_line_that_names_it(files, tmp_path, content):
    bad = {suffix: tmp_path / f"bad{suffix}" for suffix in (".npz", ".npy")}
    for path in bad.values():
        path.write_bytes(content)
    (tmp_path / "adversarial.npz").write_bytes(content)
    for network, *data in (
        (bad[".npz"], files / "data.npz"),
        (files / "net.npz", bad[".npz"]),
        (files / "net.npz", bad[".npy"], "--labels", files / "y.npy"),
        (files / "net.npz", files / "x.npy", "--labels", bad[".npy"]),
    ):
        assert "bad.np" in error_line(run("attack", network, *data, "--eps", "0.1", "--output", tmp_path / "out"))
    compared = ["--eps", "0.1", "--compare", tmp_path, "--output", tmp_path / "out"]
    assert "adversarial.npz" in error_line(run("attack", files / "net.npz", files / "data.npz", *compared))


def test_labels_in_a_file_of_several_arrays_are_a_clear_line(files, tmp_path):
    arguments = ["--labels", files / "data.npz", "--eps", "0.1", "--output", tmp_path / "out"]
    line = error_line(run("attack", files / "net.npz", files / "x.npy", *arguments))
    assert "data.npz: expected a whole .npy file of numbers: it holds several arrays" in line


def test_a_missing_file_is_one_line_without_traceback(files):
    done = run("attack", files / "none.npz", files / "data.npz", "--eps", "0.1")
    assert done.exit_code == 2
    assert "none.npz" in done.output
    assert "Traceback" not in done.output


def test_the_package_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "pyfirstorder", "--help"]
    # Elsewhere than in the source tree, which -m would import instead of the installed package.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    for command in ("info", "train", "attack"):
        assert command in done.stdout


def test_radii_may_be_fractions(tmp_path, capsys):
    assert cli.numbers_of("eps", "1/255, 8/255,0.1") == [1 / 255, 8 / 255, 0.1]
    with pytest.raises(ValueError, match="eps: expected numbers with commas between them, got '1/0'"):
        cli.numbers_of("eps", "1/0")


@pytest.mark.parametrize("arguments", [["--version"], ["info"]])
def test_version_and_info_need_no_other_package(arguments, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_MISSING", ImportError("typer"))
    monkeypatch.setattr("sys.argv", ["pyfirstorder", *arguments])
    cli.main()
    assert fo.__version__ in capsys.readouterr().out


def test_bounds_may_be_infinite_as_numbers_are():
    assert cli.numbers_of("bounds", "0,inf") == [0, np.inf]
    with pytest.raises(ValueError, match="eps: expected numbers"):
        cli.numbers_of("eps", f"1{'0' * 400}/3")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_without_the_other_packages_says_what_to_install(arguments, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_MISSING", ImportError("typer"))
    monkeypatch.setattr("sys.argv", ["pyfirstorder", *arguments])
    cli.main()
    assert 'pip install "pyfirstorder[cli]"' in capsys.readouterr().out


def test_a_command_without_its_packages_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_MISSING", ImportError("typer"))
    monkeypatch.setattr("sys.argv", ["pyfirstorder", "train", "digits"])
    with pytest.raises(SystemExit):
        cli.main()
    needed = 'train, attack, bench and reproduce need typer, rich and matplotlib: pip install "pyfirstorder[cli]"'
    assert f"error: {needed}" in capsys.readouterr().err


def attack(files, out, *arguments):
    """A short attack of the files, in two radii."""
    fixed = [files / "net.npz", files / "data.npz", "--eps", "0.1,0.3", "--steps", 5, "--output", out]
    return run("attack", *fixed, *arguments)


def test_restarts_say_which_option_they_need(files, tmp_path):
    done = attack(files, tmp_path, "--restarts", 2)
    assert error_line(done).endswith("; add --random-start")
    assert "━" not in done.output  # no bar that stands still


def test_help_says_what_options_are_when_left_out():
    shown = " ".join(run("attack", "--help").output.replace("│", " ").split())
    assert "with --random-start" in shown
    assert "Default: apgd does, pgd does not." in shown
    assert "Default cross_entropy, or logistic for one output." in shown


def test_a_missing_file_is_named_in_plain_words(files, tmp_path):
    assert error_line(run("train", tmp_path / "none.npz")) == f"error: no such file: {tmp_path / 'none.npz'}"


def test_the_table_is_also_a_file(files, tmp_path):
    assert attack(files, tmp_path).exit_code == 0
    names, *rows = (line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines())
    assert names[:3] == ["eps", "clean_accuracy", "robust_accuracy"]
    with np.load(tmp_path / "adversarial.npz") as result:
        np.testing.assert_array_equal([float(row[0]) for row in rows], result["eps"])
        np.testing.assert_array_equal([float(row[2]) for row in rows], result["withstood"])


def test_the_result_file_holds_the_settings(files, tmp_path):
    assert attack(files, tmp_path, "--norm", "l2", "--seed", 3).exit_code == 0
    with np.load(tmp_path / "adversarial.npz") as result:
        said = {
            name: result[name].item() for name in ("norm", "algorithm", "steps", "seed", "loss_function", "targeted")
        }
        assert said == {
            "norm": "l2", "algorithm": "pgd", "steps": 5, "seed": 3, "loss_function": "cross_entropy", "targeted": False
        }  # fmt: skip
        assert result["version"] == fo.__version__


def test_an_attack_with_other_settings_is_not_overwritten_unless_asked(files, tmp_path):
    assert attack(files, tmp_path).exit_code == 0
    assert attack(files, tmp_path, "--block-size", 8).exit_code == 0  # the same answer
    line = error_line(attack(files, tmp_path, "--norm", "l2", "--limit", 20))
    assert "whose attack differs in rows and norm; choose" in line
    assert line.endswith("add --overwrite")
    assert attack(files, tmp_path, "--norm", "l2", "--overwrite").exit_code == 0
    with np.load(tmp_path / "adversarial.npz") as result:
        assert result["norm"] == "l2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--norm", "l2"], "norm l2, as this one, got one with norm linf"), (["--targeted"], "targeted True")],
)
def test_curves_of_other_balls_or_goals_are_not_compared(files, tmp_path, arguments, message):
    assert attack(files, tmp_path / "one").exit_code == 0
    line = error_line(attack(files, tmp_path / "two", "--compare", tmp_path / "one", *arguments))
    assert message in line
    assert not (tmp_path / "two").exists()


def drawn(monkeypatch):
    """The arguments of the pictures that are drawn from now on."""
    plots, seen = pytest.importorskip("pyfirstorder.plots", reason="pictures need matplotlib"), []
    figure = plots.accuracy_figure

    def look(curves, **options):
        seen.append((curves, options))
        return figure(curves, **options)

    monkeypatch.setattr(plots, "accuracy_figure", look)
    return seen


def test_a_legend_says_what_differs(files, tmp_path, monkeypatch):
    seen = drawn(monkeypatch)
    assert attack(files, tmp_path / "one").exit_code == 0
    compared = ["--compare", tmp_path / "one", "--algorithm", "apgd", "--held-out", "0.5"]
    done = attack(files, tmp_path / "two", *compared)
    assert done.exit_code == 0, done.output
    assert list(seen[-1][0]) == ["one (90 samples, pgd)", "two (45 samples, held-out 0.5, apgd)"]
    assert attack(files, tmp_path / "else" / "one", "--compare", tmp_path / "one").exit_code == 0
    assert list(seen[-1][0]) == ["one (1)", "one (2)"]


def test_a_targeted_curve_begins_at_the_attacks_that_fail_with_radius_zero(files, tmp_path, monkeypatch):
    seen = drawn(monkeypatch)
    assert attack(files, tmp_path, "--targeted").exit_code == 0
    (curve,), options = seen[0][0].values(), seen[0][1]
    with np.load(files / "data.npz") as data:
        at_target = fo.predict(fo.load_network(files / "net.npz"), data["x"]) == (data["y"] + 1) % 3
    assert curve.eps[0] == 0
    assert curve.accuracy[0] == 1 - at_target.mean()
    assert "targeted pgd" in options["title"]
    assert options["quantity"] == "targeted attacks that failed"


def test_a_bundled_set_without_held_out_gives_a_hint(files, tmp_path, monkeypatch):
    monkeypatch.setitem(
        cli.datasets.BUNDLED, str(files / "data.npz"), lambda: cli.datasets._load_npz(files / "data.npz")
    )
    assert "--held-out 0.2 attacks what train leaves out" in attack(files, tmp_path / "all").output
    assert "hint" not in attack(files, tmp_path / "part", "--held-out", 0.2).output


@pytest.mark.parametrize(("other", "trained"), [((0.2, 1), None), ((0.3, 0), "--held-out 0.2 --seed 1")])
def test_a_part_that_training_did_not_hold_out_gives_a_hint(files, tmp_path, other, trained):
    net = tmp_path / "net.npz"
    done = run("train", files / "data.npz", "--hidden", 4, "--epochs", 1, "--seed", 1, "-o", net)
    assert done.exit_code == 0, done.output
    held_out, seed = other
    words = ["--eps", "0.1", "--steps", 1, "--held-out", held_out, "--seed", seed, "-o", tmp_path / "out"]
    done = run("attack", net, files / "data.npz", *words)
    assert done.exit_code == 0, done.output
    assert ("this network was trained with" in done.output) == (trained is not None)
    if trained is not None:
        assert trained in done.output


@pytest.mark.parametrize("job", ['["a"]', "fit 3", "3"])
def test_a_network_that_names_a_job_of_somebody_else_is_attacked(files, tmp_path, job):
    net = fo.load_network(files / "net.npz")
    net.save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as kept:
        np.savez(tmp_path / "other.npz", **kept, job=job)
    words = ["--eps", "0.1", "--steps", 1, "--held-out", 0.2, "-o", tmp_path / "out"]
    done = run("attack", tmp_path / "other.npz", files / "data.npz", *words)
    assert done.exit_code == 0, done.output


def test_the_box_that_is_named_for_data_without_one_holds_them(files, tmp_path):
    with np.load(files / "data.npz") as data:
        np.savez(tmp_path / "data.npz", x=data["x"] * np.float32(13.59043025970459), y=data["y"])
    words = ["attack", files / "net.npz", tmp_path / "data.npz", "--eps", "0.1", "--steps", 1, "-o", tmp_path / "out"]
    done = run(*words)
    box = re.search(r"--bounds (\S+) would keep", " ".join(done.output.split()))
    assert box, done.output
    assert run(*words, "--bounds", box[1]).exit_code in (0, 2)
    assert "outside" not in run(*words, "--bounds", box[1], "--overwrite").output


@pytest.mark.parametrize("on_disk", [False, True])
def test_images_are_drawn_in_the_shape_that_they_are_stored_in(files, tmp_path, on_disk):
    pytest.importorskip("pyfirstorder.plots", reason="pictures need matplotlib")
    with np.load(files / "data.npz") as data:
        images, y = data["x"].reshape(-1, 4, 4), data["y"]
    stored = tmp_path / ("images.npy" if on_disk else "images.npz")
    if on_disk:
        np.save(stored, images)
    else:
        np.savez(stored, x=images, y=y)
    words = ["--eps", "0.1,0.3", "--steps", 2, "--step-size", "2/255", "-o", tmp_path / "out"]
    words += ["--labels", files / "y.npy"] if on_disk else []
    done = run("attack", files / "net.npz", stored, *words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "examples.png").exists()


def test_one_radius_is_not_radii(files, tmp_path):
    done = run("attack", files / "net.npz", files / "data.npz", "--eps", "0.1", "--steps", 1, "--output", tmp_path)
    assert "90 samples x 1 radius in" in done.output


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_colour_bar_shows_how_far_a_pixel_moved(norm):
    plots = pytest.importorskip("pyfirstorder.plots", reason="pictures need matplotlib")
    clean = np.zeros((2, 4))
    examples = plots.Examples(0.25, clean, clean + 0.125, np.zeros(2, int), np.ones(2, int))
    bar = plots.examples_figure(examples, norm=norm, image_shape=(2, 2)).axes[-1]
    reach = {"linf": "0.25", "l2": "0.125"}[norm]
    assert [label.get_text() for label in bar.get_yticklabels()] == [f"−{reach}", "0", f"+{reach}"]


def test_train_goes_on_from_a_network_with_its_first_layer_alone(files, tmp_path):
    options = ["--network", files / "net.npz", "--trained", "first", "--no-biases", "--dtype", "float64", "--epochs", 1]
    done = run("train", files / "data.npz", *options, "-o", tmp_path / "more.npz", "--history", tmp_path / "h.json")
    assert done.exit_code == 0, done.output
    before, after = fo.load_network(files / "net.npz"), fo.load_network(tmp_path / "more.npz")
    assert after.dtype == np.float64
    np.testing.assert_array_equal(after.output_weight, before.output_weight)
    np.testing.assert_array_equal(after.hidden_bias, before.hidden_bias)
    assert not np.array_equal(after.hidden_weight, before.hidden_weight)
    assert {path.name for path in tmp_path.iterdir()} == {"more.npz", "h.json"}  # and no checkpoint


def test_a_network_of_other_settings_is_replaced_only_on_request(files, tmp_path):
    def train(epochs, *more):
        return run("train", files / "data.npz", "--hidden", 4, "--epochs", epochs, "-o", tmp_path / "net.npz", *more)

    assert train(1).exit_code == 0
    kept = (tmp_path / "net.npz").read_bytes()
    line = error_line(train(2))
    assert line.startswith("error: --output: expected that of this job, got")
    assert "of one that differs in epochs; choose another output, or add --overwrite" in line
    assert (tmp_path / "net.npz").read_bytes() == kept
    assert train(1).exit_code == 0
    assert (tmp_path / "net.npz").read_bytes() == kept
    assert train(2, "--overwrite").exit_code == 0
    assert fo.load_network(tmp_path / "net.npz").hidden_features == 4
    assert (tmp_path / "net.npz").read_bytes() != kept
    fo.random_network(16, 4).save(tmp_path / "net.npz")
    assert "which is of none" in error_line(train(2))


def test_a_checkpoint_that_is_named_stays_for_more_epochs(files, tmp_path):
    straight, kept = tmp_path / "straight.npz", ["--checkpoint", tmp_path / "c.npz", "-o", tmp_path / "net.npz"]
    assert run("train", files / "data.npz", "--hidden", 4, "--epochs", 3, "-o", straight).exit_code == 0
    assert run("train", files / "data.npz", "--hidden", 4, "--epochs", 1, *kept).exit_code == 0
    done = run("train", files / "data.npz", "--hidden", 4, "--epochs", 3, *kept)
    assert "after 3 epochs, 1 of them in a run before" in " ".join(done.output.split())
    assert (tmp_path / "net.npz").read_bytes() == straight.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", "h.txt"], "history: expected a file ending in .csv or .json"),
        (["--checkpoint", "c.txt"], "checkpoint: expected a file ending in .npz"),
        (["--trained", "second"], "trained: expected one of 'both', 'first'"),
        (["--dtype", "float16"], "dtype: expected float32 or float64"),
        (["--network", "NET", "--hidden", "4"], "hidden_features: expected None, because network has its own, got 4"),
        (["--network", "NET", "--output", "NET"], "output: expected a place of its own"),
    ],
)
def test_a_mistake_in_training_is_one_line(files, tmp_path, arguments, message):
    words = [files / "net.npz" if word == "NET" else word for word in arguments]
    assert message in error_line(run("train", files / "data.npz", "-o", tmp_path / "net.npz", *words))


def test_radii_to_train_against_may_be_fractions(files, tmp_path):
    def trained(eps):
        path = tmp_path / "net.npz"
        done = run(
            "train",
            files / "data.npz",
            "--activation",
            "tanh",
            "--epochs",
            1,
            "--adversarial-eps",
            eps,
            "-o",
            path,
            "--overwrite",
        )
        assert done.exit_code == 0, done.output
        return path.read_bytes()

    assert trained("1/8") == trained("0.125") != trained("1/4")
    for text in ("0.1,0.2", "abc", "8/0"):
        assert f"--adversarial-eps: expected one number, such as 0.1 or 8/255, got {text!r}" in error_line(
            run("train", files / "data.npz", "--adversarial-eps", text, "-o", tmp_path / "net.npz")
        )


def test_errors_call_options_by_their_names(files, tmp_path):
    assert error_line(attack(files, tmp_path, "--step-size", -1)).startswith("error: --step-size: expected")
    line = error_line(attack(files, tmp_path, "--step-size", 0.1, "--rel-step-size", 0.1))
    assert "--rel-step-size" in line
    assert "_size" not in line


def test_numbers_that_may_be_anything_are_said_to_have_no_bounds(files, tmp_path):
    assert "no bounds: numbers of float32" in attack(files, tmp_path / "a").output
    assert "no bounds" not in attack(files, tmp_path / "b", "--bounds", "none").output


def test_no_picture_of_an_attack_that_was_replaced_stays(files, tmp_path):
    assert attack(files, tmp_path, "--image-shape", "4,4").exit_code == 0
    assert (tmp_path / "examples.png").exists()
    assert attack(files, tmp_path, "--norm", "l2", "--overwrite").exit_code == 0
    assert not (tmp_path / "examples.png").exists()
    assert (tmp_path / "accuracy.png").exists()


def test_the_result_says_which_weights_and_samples_it_is_of(files, tmp_path):
    found = []
    for limit in (5, 6):
        assert attack(files, tmp_path / str(limit), "--limit", limit, "--bounds", "0,1").exit_code == 0
        with np.load(tmp_path / str(limit) / "adversarial.npz") as result:
            found.append({name: result[name].tolist() for name in result.files if name.endswith("fingerprint")})
            assert result["bounds"].tolist() == [0, 1]
            assert result["version"] == fo.__version__
    assert found[0]["weights_fingerprint"] == found[1]["weights_fingerprint"]
    assert found[0]["samples_fingerprint"] != found[1]["samples_fingerprint"]


def test_info_shows_all_of_a_long_line_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(fo, "show_config", lambda: {"backend": "x" * 200})
    assert run("info").output.count("x") == 200
