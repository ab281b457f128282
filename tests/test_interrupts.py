"""Ctrl-C ends every long call long before its end, and the next call has the right bits.

An alarm stands for Ctrl-C: both are signals, which Python hears of in the same way.  On a quiet
machine calls end within 0.2 s; one that is busy with other tests may take the processor away for longer, so the tests
allow seconds where the call would take minutes or hours.
"""

from __future__ import annotations

import signal
import threading
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from support import every_backend_name

import pyfirstorder as fo
from pyfirstorder import dynamics, interrupts, training
from pyfirstorder.backends.reference import network as reference_network

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread(),
    reason="needs alarms, which the main thread hears",
)

MOST_SECONDS_TO_END = 5.0  # after the alarm; the calls would take at least twenty times as long
ALARM = 0.3  # seconds after which it goes off: well within the calls
NEVER = 2**31 - 2  # steps
HUGE = 10**7  # epochs and the like


class AlarmError(BaseException):
    """Raised by the alarm."""


@contextmanager
def alarm(after: float):
    """Seconds between alarm and end, in a list: empty if the block ended by itself."""
    seconds = []

    def ring(*_):
        raise AlarmError

    started = time.perf_counter()
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield seconds
    except AlarmError:
        seconds.append(time.perf_counter() - started - after)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


RNG = np.random.default_rng(0)
NET = fo.TwoLayerNetwork(
    RNG.standard_normal((256, 200), np.float32) / 14, RNG.standard_normal((5, 256), np.float32) / 16, activation="tanh"
)
SMOOTH = fo.random_network(200, 256, activation="tanh", seed=1)
X, Y = RNG.random((64, 200), np.float32), np.arange(64) % 5
ZEROS = np.zeros(len(X), np.float32)
FOREVER = {"steps": NEVER, "retire": False}

CALLS = {
    "pgd": lambda b: fo.pgd(NET, X, Y, eps=0.1, backend=b, **FOREVER),
    "pgd in a box": lambda b: fo.pgd(NET, X, Y, eps=1.0, norm="l1", bounds=(0, 1), backend=b, **FOREVER),
    "pgd on hidden units": lambda b: fo.pgd(NET, X, Y, eps=0.5, norm="l2", backend=b, **FOREVER),
    "apgd": lambda b: fo.apgd(NET, X, Y, eps=0.5, norm="l2", bounds=(0, 1), steps=10**8, backend=b),
    "robustness_curve": lambda b: fo.robustness_curve(NET, X, Y, eps=[0.1, 0.2], backend=b, **FOREVER),
    "minimal_eps": lambda b: fo.minimal_eps(NET, X, Y, norm="l2", bounds=(0, 1), steps=NEVER, retire=False, backend=b),
    "evaluate": lambda b: fo.evaluate(NET, X, Y, eps=1e-3, steps=10**8, backend=b),
    "trace": lambda b: dynamics.trace(
        SMOOTH,
        X[:16],
        ZEROS[:16],
        eps=2.0,
        norm="l2",
        loss="squared",
        direction="gradient",
        step_size=1e-3,
        steps=50_000,
        backend=b,
    ),
    "train": lambda b: training.train(X, Y, hidden_features=64, epochs=HUGE, adversary={"eps": 0.1}, backend=b),
    "train plainly": lambda b: training.train(X, Y, hidden_features=64, epochs=HUGE, backend=b),
}


@every_backend_name
@pytest.mark.parametrize("name", CALLS)
def test_a_signal_ends_a_long_call_and_the_next_has_the_right_bits(backend_name, name):
    attack = {"eps": 0.1, "norm": "l2", "steps": 7, "backend": backend_name}
    before = fo.pgd(NET, X, Y, **attack)  # compiles what has to be
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warm_up(name, backend_name)
        with alarm(ALARM) as seconds:
            CALLS[name](backend_name)
    assert seconds, "the call would take minutes, and ended by itself"
    print(f"{name} on {backend_name} ended {seconds[0]:.3f} s after the alarm")
    assert seconds[0] < MOST_SECONDS_TO_END
    again = fo.pgd(NET, X, Y, **attack)
    np.testing.assert_array_equal(again.x_adv, before.x_adv)
    np.testing.assert_array_equal(again.loss, before.loss)


def warm_up(name, backend):
    """What would be compiled at its first call, which no signal ends."""
    if backend == "numba" and "apgd" not in name:
        fo.apgd(NET, X[:2], Y[:2], eps=0.5, norm="l2", bounds=(0, 1), steps=2, backend=backend)
        fo.forward(NET, X, backend=backend)


def whole_and_interrupted(call, after):
    """Seconds of a call, and seconds of one in which an alarm went off."""
    started = time.perf_counter()
    call()
    whole = time.perf_counter() - started
    with alarm(after * whole) as seconds:
        started = time.perf_counter()
        call()
    assert seconds, "it ended before the alarm"
    return whole, time.perf_counter() - started


MANY = RNG.standard_normal((400, 200))
LABORATORY = {
    "stationarity": lambda b: dynamics.stationarity(
        SMOOTH, MANY, np.zeros(len(MANY)), x0=MANY, eps=1.0, norm="l2", loss="squared", backend=b
    ),
    "landscapes": lambda b: dynamics.landscapes(
        SMOOTH,
        MANY,
        np.zeros(len(MANY)),
        [dynamics.random_plane(x, seed=0) for x in MANY],
        eps=1.0,
        points=41,
        loss="squared",
        backend=b,
    ),
}


@every_backend_name
@pytest.mark.parametrize("name", LABORATORY)
def test_a_signal_ends_the_work_of_the_laboratory(backend_name, name):
    LABORATORY[name](backend_name)  # compiles what has to be
    whole, interrupted = whole_and_interrupted(lambda: LABORATORY[name](backend_name), after=0.1)
    print(f"{name} on {backend_name}: {interrupted:.3f} of {whole:.3f} s")
    assert interrupted < 0.7 * whole


def test_a_signal_ends_the_packing_of_large_weights():
    cpu = pytest.importorskip("pyfirstorder.backends.cpu", reason="the native engine is not installed")
    w, b, a = np.ones((4096, 6144), np.float32), np.zeros(4096, np.float32), np.ones((1, 4096), np.float32)
    isa = cpu.active_isa()
    whole, interrupted = whole_and_interrupted(
        lambda: cpu._cpu.pack(isa, w, b, a, np.zeros(1, np.float32), "relu", 0.0), after=0.1
    )
    print(f"packing: {interrupted:.3f} of {whole:.3f} s")
    assert interrupted < 0.7 * whole


@pytest.mark.parametrize("backend_name", ["cpu"])
def test_a_signal_ends_the_forming_of_inner_products_and_another_thread_can_form_them(backend_name):
    if fo.available_backends()[backend_name] != "available":
        pytest.skip("the native engine is not installed")
    weights = RNG.standard_normal((3072, 3072), np.float32), RNG.standard_normal((1, 3072), np.float32)
    x, y = RNG.random((2, 3072), np.float32), np.ones((2, 1), np.float32)
    net = fo.TwoLayerNetwork(*weights, activation="tanh")
    fo.forward(net, x)

    def attack(net=net):
        return fo.pgd(
            net, x, y, eps=0.1, norm="l2", loss="linear", steps=2, evaluation="hidden", backend="cpu", threads=1
        )

    with alarm(0.1) as seconds:
        attack()
    assert seconds, "2.9e10 multiply-adds took less than a tenth of a second"
    print(f"inner products ended {seconds[0]:.3f} s after the alarm")
    assert seconds[0] < MOST_SECONDS_TO_END
    np.testing.assert_array_equal(attack().x_adv, attack(fo.TwoLayerNetwork(*weights, activation="tanh")).x_adv)


def test_a_signal_does_not_wait_for_another_library():
    matrix = RNG.standard_normal((1500, 1500))
    matrix += matrix.T
    whole, interrupted = whole_and_interrupted(lambda: interrupts.of_matrix(np.linalg.eigvalsh, matrix), after=0.1)
    print(f"eigenvalues: {interrupted:.3f} of {whole:.3f} s")
    assert interrupted < 0.7 * whole


def test_a_signal_ends_a_mixed_integer_program():
    pytest.importorskip("scipy", reason='certify(method="exact") needs it')
    net = fo.TwoLayerNetwork(RNG.standard_normal((150, 40)), RNG.standard_normal((2, 150)), activation="relu")
    with alarm(1.0) as seconds:
        fo.certify(net, np.zeros((1, 40)), np.zeros(1, int), eps=1.0, method="exact", time_limit=3.0)
    assert seconds, "the program was solved in less than a second"
    print(f"certify ended {seconds[0]:.3f} s after the alarm")
    assert seconds[0] < 1.0, "two seconds more were left to it"


def test_an_error_aside_is_that_of_the_call():
    with pytest.raises(ZeroDivisionError):
        interrupts.aside(lambda: 1 / 0)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        interrupts.aside(np.divide, np.ones(1), np.zeros(1))
    assert interrupts.aside(max, 1, 2, key=lambda value: -value) == 1


def test_a_thread_that_cannot_start_is_done_without(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert interrupts.aside(sum, [1, 2]) == 3


def test_products_of_the_reference_in_parts_have_the_bits_of_one(monkeypatch):
    rows, matrix = RNG.standard_normal((7, 33)), RNG.standard_normal((5, 33))
    whole = reference_network.product(rows, matrix)
    monkeypatch.setattr(reference_network, "_NUMBERS_AT_ONCE", 2 * matrix.size)
    np.testing.assert_array_equal(reference_network.product(rows, matrix), whole)
    assert reference_network.product(rows[:0], matrix).shape == (0, 5)
