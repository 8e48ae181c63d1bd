"""The files of a run: whole or not there, and never another's."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rnnjax.lessons import JointClassifier
from train.cli import InputError
from train.runs.directory import RunDirectory
from train.runs.files import UNFINISHED, write_json, write_text

ROOT = Path(__file__).resolve().parent.parent
CONFIG = {
    "program": "names",
    "config": {"epochs": 2, "seed": 0},
    "sizes": {},
    "alphabet": "aß",
}
RECORD = {"step": 4, "train_loss": 0.5, "train_seconds": 0.1}


@pytest.fixture
def run(tmp_path):
    return RunDirectory.open(tmp_path / "run", CONFIG)


@pytest.fixture
def trained(run):
    model = JointClassifier(vocab_size=5, hidden_size=3, num_classes=2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    run.write_params(model, params)
    return run


def test_what_is_written_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "some.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert [each.name for each in tmp_path.iterdir()] == ["some.json"]
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_parameters_come_back(trained):
    arrays = trained.read_params()
    loaded = load_file(trained.path / "params.safetensors")
    jax.tree.map(np.testing.assert_array_equal, arrays, loaded)


def test_the_parameters_are_the_same_bytes_every_time(trained):
    path = trained.path / "params.safetensors"
    before = path.read_bytes()
    model = JointClassifier(vocab_size=5, hidden_size=3, num_classes=2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    trained.write_params(model, params)
    assert path.read_bytes() == before


def test_torch_loads_the_parameters(trained):
    torch = pytest.importorskip("safetensors.torch", exc_type=ImportError)
    loaded = torch.load_file(trained.path / "params.safetensors")
    assert loaded.keys() == trained.read_params().keys()


def test_every_flipped_bit_of_the_parameters_is_found(trained, rng):
    path = trained.path / "params.safetensors"
    contents = path.read_bytes()
    for place in [*range(0, len(contents), 7), *range(8)]:
        flipped = bytearray(contents)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(InputError, match=r"params\.safetensors is damaged.*anew"):
            trained.read_params()


@pytest.mark.parametrize("keep", [0, 7, 50, -1])
def test_shortened_parameters_are_found(keep, trained):
    path = trained.path / "params.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"params\.safetensors is damaged.*anew"):
        trained.read_params()


def test_parameters_without_a_hash_are_refused(trained):
    path = trained.path / "params.safetensors"
    save_file(load_file(path), path)
    with safe_open(path, framework="numpy") as file:
        assert not file.metadata()
    with pytest.raises(InputError, match="is damaged, or the config.json"):
        trained.read_params()


def test_the_configuration_vouches_for_the_parameters_but_for_the_length(trained):
    path = trained.path / "config.json"
    write_json(path, CONFIG | {"config": {"epochs": 9, "seed": 0}})
    assert trained.read_params()
    write_json(path, CONFIG | {"alphabet": "ab"})
    with pytest.raises(InputError, match="is damaged, or the config.json"):
        trained.read_params()


def test_missing_parameters_and_the_remedy(run):
    with pytest.raises(InputError, match=r"no trained model .*same --out writes it"):
        run.read_params()


def test_what_a_killed_process_leaves_is_removed(run, tmp_path):
    left = run.path / f".config.json.abc{UNFINISHED}"
    left.write_text("{")
    RunDirectory.open(run.path, CONFIG)
    assert not left.exists()
    # Killed before there was a config.json.
    young = tmp_path / "young"
    young.mkdir()
    (young / ".lock").write_text("")
    (young / f".config.json.abc{UNFINISHED}").write_text("{")
    RunDirectory.open(young, CONFIG)
    assert {path.name for path in young.iterdir()} == {
        *(".lock", "config.json", "env.json"),
        *("plots", "tensorboard", "checkpoints"),
    }


def test_two_runs_cannot_share_a_directory(run):
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from train.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock():\n"
        "    print('locked', flush=True)\n    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(run.path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    longer = CONFIG | {"config": {"epochs": 9, "seed": 0}}
    with other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another process is training in"):
            RunDirectory.open(run.path, longer)
        with pytest.raises(InputError, match="another process is"), run.lock():
            pass
        assert run.config == CONFIG
        other.communicate("", timeout=60)
    assert RunDirectory.open(run.path, longer).config == longer


@pytest.mark.parametrize(
    "damage",
    [b"{", b"\xff", b"[1]", b'{"step": 1}', b'{"step": "1", "train_seconds": 2}'],
)
def test_damaged_metrics_are_named_and_left_out(damage, run, capsys):
    for epoch in range(3):
        run.append_metrics({"epoch": epoch} | RECORD)
    path = run.path / "metrics.jsonl"
    first, _, third = path.read_bytes().splitlines(True)
    # As after a kill, the last line is half there.
    path.write_bytes(first + damage + b"\n" + third + b'{"ste')
    run.keep_metrics(RECORD["step"])
    assert capsys.readouterr().out == f"{path}: line 2 is damaged and left out\n"
    assert path.read_bytes() == first + third


def test_a_full_disk_is_loud(tmp_path):
    """Files may not grow beyond a few bytes: nothing half is left, nothing claimed."""
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from train.runs.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(Path(sys.argv[1]), 'x' * 5000)\n"
    )
    (tmp_path / "old.txt").write_text("old")
    for name in ("old.txt", "new.txt"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / name)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"
