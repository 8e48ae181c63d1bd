"""A training that is divided among devices is the training of one."""

import json
import os
import subprocess
import sys

import pytest

from tests.campaign.programs import ROOT
from train.cli import InputError
from train.names.__main__ import Config
from train.runs.devices import Devices, make_layout

# A row's state that is kept, and dropout; replicas; a text.
NAMES = ["binary rnn", "binary linear x 4", "lab lstm"]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    """What ``python -m tests.campaign.devices`` found, on four devices of a CPU."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign.devices", *NAMES],
        cwd=ROOT,
        env=os.environ | {"RNNJAX_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line[0] == "{"]
    return {line.pop("name"): line for line in lines}


@pytest.mark.parametrize("name", NAMES)
def test_the_losses_are_those_of_one_device(name, found):
    assert found[name]["last"] != found[name]["first"]
    assert found[name]["4/1"] <= 1e-5


def test_so_they_are_when_the_gates_are_divided(found):
    assert found["binary rnn"]["4/2"] <= 1e-5
    # The gates are, the rest is not.
    assert 1 / 2 < found["binary rnn"]["4/2 share"] < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_each_device_has_its_share_of_the_numbers(name, found):
    whole = 1 / 4 if "x 4" in name else 1
    assert found[name]["4/1 share"] == pytest.approx(whole, rel=0.01)


def test_devices_talk_once_an_update_and_not_at_every_step(found):
    assert found["talks"]["loops"] >= 2
    assert found["talks"]["inside"] == 0 < found["talks"]["all"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"devices": 0}, "--devices is 0; expected at least 1"),
        ({"devices": 64}, "--devices is 64; JAX has 1 .*device_count=64 makes so many"),
        ({"process_id": 1}, "--process-id belongs to --distributed; add it"),
        ({"distributed": True, "coordinator": "here"}, "is 'here'; .*10.0.0.1:1234"),
        (
            {"distributed": True, "num_processes": 2, "process_id": 2},
            "--process-id is 2; expected less than the 2 of --num-processes",
        ),
        (
            {"model_parallel": 3},
            "--model-parallel is 3; expected a number that divides",
        ),
    ],
)
def test_what_cannot_be(flags, message):
    with pytest.raises(InputError, match=message):
        make_layout(Config(**flags), rows=16, replicas=1, hidden_size=8)


@pytest.mark.parametrize(
    ("flags", "rows", "replicas", "message"),
    [
        (
            4,
            18,
            1,
            "4 devices cannot share the 18 rows .* --batch-size 20, or --devices 2",
        ),
        (
            4,
            18,
            6,
            "4 devices cannot share the 6 replicas .* --seeds 8, or --devices 2",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared(flags, rows, replicas, message, monkeypatch):
    monkeypatch.setattr("jax.device_count", lambda: 8)
    with pytest.raises(InputError, match=message):
        make_layout(Devices(devices=flags), rows, replicas, 8)


def test_by_default_as_many_as_can_share_the_batch(monkeypatch, capsys):
    monkeypatch.setattr("jax.device_count", lambda: 8)
    assert make_layout(Devices(), rows=1, replicas=1, hidden_size=8) is None
    assert capsys.readouterr().out == "1 of 8 devices: 1 of 1 rows on each\n"
