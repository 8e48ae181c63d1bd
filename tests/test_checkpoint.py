"""Checkpoints: what is damaged is never taken for what was saved."""

import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.cli import InputError
from train.runs.checkpoint import MANIFEST, Checkpoints

CONFIG = {"config": {"recipe": "blog", "epochs": 2}, "alphabet": "abc"}


class State(NamedTuple):
    params: Any
    opt_state: Any
    carry: Any


def tree(seed=0, features=5, **changes):
    rng = np.random.default_rng(seed)
    kernel = jnp.asarray(rng.normal(size=(3, features)), jnp.float32)
    params = {"hh": {"kernel": kernel}, "h2o": {"bias": jnp.ones(4)}}
    state = State(params, (jnp.array(seed), params), None)
    return {"state": state, "losses": np.arange(6.0)} | changes


def checkpoints(directory, config=CONFIG):
    return Checkpoints(directory / "checkpoints", config)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original")
    some = checkpoints(path)
    some.save(10, tree(10))
    some.save(20, tree(20))
    return path


@pytest.fixture
def saved(original, tmp_path):
    """A run's directory with checkpoints 10 and 20."""
    return shutil.copytree(original, tmp_path, dirs_exist_ok=True)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def files_of(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def test_the_newest_comes_back_as_it_was(saved):
    step, found = checkpoints(saved).restore_newest(tree())
    assert step == 20
    assert_same(found, tree(20))
    kinds = [jax.tree.map(lambda leaf: leaf.dtype, each) for each in (found, tree())]
    assert kinds[0] == kinds[1]


def test_without_any_there_is_none(tmp_path):
    assert checkpoints(tmp_path).restore_newest(tree()) is None


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    some = checkpoints(tmp_path)
    for step, loss in [(1, None), (2, 1.5), (3, 1.0), (4, 1.25), (5, None), (6, 2.0)]:
        some.save(step, tree(), loss)
        assert step in some.steps()
    assert some.steps() == [3, 5, 6]
    some.save(7, tree(), 0.5)
    assert some.steps() == [6, 7]


def test_the_manifest_is_that_of_sha256sum(saved):
    step = saved / "checkpoints" / "20"
    lines = (step / MANIFEST).read_text().splitlines()
    names = [line.split("  ")[1] for line in lines]
    assert names == [
        str(path.relative_to(step)) for path in files_of(step) if path.name != MANIFEST
    ]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)


def test_every_flipped_bit_is_found(saved, rng, capsys):
    """In every file of the newest, manifest included: the one before is taken."""
    newest = saved / "checkpoints" / "20"
    spare = saved / "spare"
    shutil.copytree(newest, spare)
    like, wanted = tree(), tree(10)
    for path in files_of(newest):
        contents = bytearray(path.read_bytes())
        place = rng.integers(len(contents))
        contents[place] ^= 1 << rng.integers(8)
        path.write_bytes(contents)
        step, found = checkpoints(saved).restore_newest(like)
        assert step == 10, path
        assert_same(found, wanted)
        said = capsys.readouterr().out
        assert said.startswith(f"damaged checkpoint {newest}: ")
        assert said.count("\n") == 1
        # It is gone, so that training can save it again.
        assert not newest.exists()
        shutil.copytree(spare, newest)


@pytest.mark.parametrize("harm", ["shorten", "empty", "delete", "add"])
def test_missing_and_shortened_files_are_found(harm, saved, capsys):
    newest = saved / "checkpoints" / "20"
    spare = saved / "spare"
    shutil.copytree(newest, spare)
    for path in files_of(newest):
        if harm == "delete":
            path.unlink()
        elif harm == "add":
            path.with_name("more").write_text("")
        else:
            keep = path.stat().st_size - 1 if harm == "shorten" else 0
            path.write_bytes(path.read_bytes()[:keep])
        step, _ = checkpoints(saved).restore_newest(tree())
        assert step == 10, path
        assert "damaged checkpoint" in capsys.readouterr().out
        shutil.copytree(spare, newest)


def test_training_is_not_started_over_where_all_are_damaged(saved):
    for step in ("10", "20"):
        (saved / "checkpoints" / step / MANIFEST).unlink()
    for _ in range(2):  # nothing was removed
        with pytest.raises(InputError, match=r"all checkpoints in .* are damaged"):
            checkpoints(saved).restore_newest(tree())


def test_leftovers_of_killed_processes_are_removed(saved):
    directory = saved / "checkpoints"
    shutil.copytree(directory / "20", directory / ".unfinished" / "state")
    shutil.copytree(directory / "20", directory / "30.orbax-checkpoint-tmp")
    (directory / ".dropped").mkdir()
    (directory / "notes").write_text("")
    some = checkpoints(saved)
    assert sorted(path.name for path in directory.iterdir()) == ["10", "20"]
    some.save(30, tree(30))
    assert some.steps() == [20, 30]


@pytest.mark.parametrize(
    ("like", "there", "now"),
    [
        (
            tree(features=7),
            "state/params/hh/kernel: 'float32 (3, 5)' there",
            "'float32 (3, 7)' now",
        ),
        (
            tree(losses=np.arange(6)),
            "losses: 'float64 (6,)' there",
            "'int64 (6,)' now",
        ),
        (tree(more=jnp.ones(2)), "more: None there", "'float32 (2,)' now"),
        (
            {"state": tree()["state"]},
            "losses: 'float64 (6,)' there",
            "None now",
        ),
    ],
    ids=["shape", "type", "additional", "missing"],
)
def test_another_tree_is_refused_with_both(like, there, now, saved, monkeypatch):
    import orbax.checkpoint as ocp

    def never(*_):
        raise AssertionError("loaded before it was compared")

    monkeypatch.setattr(ocp.Checkpointer, "restore", never)
    with pytest.raises(InputError) as error:
        checkpoints(saved).restore_newest(like)
    assert f"{there}, {now}" in str(error.value)
    assert "\n" not in str(error.value)
    assert checkpoints(saved).steps() == [10, 20]


def test_another_configuration_is_refused_but_for_the_length(saved):
    longer = CONFIG | {"config": {"recipe": "blog", "epochs": 9}}
    assert checkpoints(saved, longer).restore_newest(tree())
    other = CONFIG | {"alphabet": "abcd"}
    with pytest.raises(InputError, match="alphabet: 'abc' there, 'abcd' now"):
        checkpoints(saved, other).restore_newest(tree())


def test_a_save_that_fails_leaves_the_others(saved, monkeypatch):
    from train.runs import checkpoint

    def full(*_):
        raise OSError(28, "No space left on device")

    some = checkpoints(saved)
    monkeypatch.setattr(checkpoint, "write_text", full)
    with pytest.raises(OSError, match=r"30 cannot be written: .*No space left"):
        some.save(30, tree(30))
    assert some.steps() == [10, 20]
    assert not [path for path in (saved / "checkpoints").iterdir() if "un" in path.name]
    assert checkpoints(saved).restore_newest(tree())[0] == 20


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(FileExistsError):
        checkpoints(tmp_path)
