"""Names as each lesson cleans and divides them."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from train.cli import InputError
from train.datasets import SAMPLE_NAMES, load_names
from train.names import splits

REAL = Path(os.environ.get("RNNJAX_DATA", "")) / "names"
ALL = [
    splits.practical,
    splits.workshop,
    splits.blog,
    splits.binary,
    splits.best,
    splits.best_leak_free,
]


@pytest.fixture(scope="module")
def sample():
    return load_names(SAMPLE_NAMES)


@pytest.fixture(scope="module")
def real():
    if "RNNJAX_DATA" not in os.environ:
        pytest.skip("RNNJAX_DATA is not set")
    return load_names(REAL)


def rng(seed=0):
    return np.random.default_rng(seed)


def all_parts(split):
    return [part for part in split[2:] if part is not None]


def write(directory, **languages):
    for language, names in languages.items():
        (directory / f"{language}.txt").write_text("\n".join(names), encoding="utf-8")
    return load_names(directory)


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_split_is_a_function_of_the_seed(make, sample):
    first, again, other = (
        make(sample, rng(1)),
        make(sample, rng(1)),
        make(sample, rng(2)),
    )
    assert first.train.names.tolist() == again.train.names.tolist()
    assert first.train.names.tolist() != other.train.names.tolist()


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_every_character_is_in_the_alphabet(make, sample):
    split = make(sample, rng())
    for part in all_parts(split):
        assert set("".join(part.names)) <= set(split.alphabet)
        assert all(part.names)
        assert len(part.names) == len(part.labels)


@pytest.mark.parametrize("make", [splits.practical, splits.blog, splits.best])
def test_nothing_is_lost_or_doubled(make, sample):
    split = make(sample, rng())
    names = Counter(name for part in all_parts(split) for name in part.names)
    assert sum(names.values()) == len(sample.names)


def test_practical_takes_75_10_and_15_percent_of_every_language(tmp_path):
    data = write(tmp_path, A=[f"a{c}" for c in "bcdefghijklmnopqrstu"], B=["x"] * 40)
    split = splits.practical(data, rng())
    counts = [np.bincount(part.labels).tolist() for part in all_parts(split)]
    assert counts == [[15, 30], [2, 4], [3, 6]]


def test_workshop_keeps_50_and_tests_on_unseen_names(tmp_path):
    data = write(
        tmp_path,
        A=[a + b for a in "abcdefgh" for b in "abcdefgh"] + ["aa"] * 30,
        B=["only", "few"],
    )
    split = splits.workshop(data, rng())
    assert np.bincount(split.train.labels).tolist() == [50, 2]
    assert not set(split.test.names) & set(split.train.names)
    assert set(split.test.labels) == {0}


def test_workshop_needs_names_to_be_tested_on(tmp_path):
    data = write(tmp_path, A=["a", "b"], B=["c"])
    with pytest.raises(InputError, match="at most 50 names of every language"):
        splits.workshop(data, rng())


def test_blog_skips_names_with_other_characters(tmp_path):
    data = write(tmp_path, A=["Smith/B", "Smith1", *["Müller"] * 10], B=["Weiß"] * 10)
    split = splits.blog(data, rng())
    names = {name for part in all_parts(split) for name in part.names}
    assert names == {"Muller", "Weiss"}
    assert np.bincount(split.test.labels).tolist() == [1, 1]


def test_binary_removes_names_of_both_once(tmp_path):
    data = write(
        tmp_path,
        German=["Salomon", "Salomon", "Abt", "Ähre"],
        Italian=["Salomon", "Abate"],
        Other=["Zzz"],
    )
    split = splits.binary(data, rng())
    names = Counter(name for part in all_parts(split) for name in part.names)
    assert names == {"Salomon": 1, "Abt": 1, "Ähre": 1, "Abate": 1}
    assert split.languages == ("German", "Italian")
    assert "z" in split.alphabet
    assert "Ä" in split.alphabet


def test_binary_needs_both_languages(tmp_path):
    data = write(tmp_path, German=["a"], French=["b"])
    with pytest.raises(InputError, match=r"has no Italian\.txt"):
        splits.binary(data, rng())


def test_leak_free_means_that_no_test_name_is_in_training(tmp_path):
    pairs = [a + b for a in "abcdefgh" for b in "abcdefgh"]
    data = write(tmp_path, A=pairs + pairs, B=pairs[:20] + ["zz"], C=["q", "r"] * 9)
    split = splits.best_leak_free(data, rng())
    train, test = set(split.train.names), set(split.test.names)
    assert not train & test
    rows = Counter(
        (name, label)
        for part in all_parts(split)
        for name, label in zip(part.names, part.labels.tolist(), strict=True)
    )
    assert set(rows.values()) == {1}
    assert len(rows) == 64 + 21 + 2


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_language_that_cannot_be_spelt_is_named(make, tmp_path):
    if make is splits.binary:
        pytest.skip("it takes every character")
    data = write(tmp_path, A=["a", "b"], Chinese=["日本"])
    with pytest.raises(InputError, match=r"Chinese\.txt has no name"):
        make(data, rng())


def test_real_data_has_the_lessons_counts(real):
    blog = splits.blog(real, rng())
    assert (len(blog.train.names), len(blog.test.names)) == (18_063, 2_007)
    binary = splits.binary(real, rng())
    assert (len(binary.train.names), len(binary.test.names)) == (1_143, 286)
    assert len(binary.alphabet) == 65
    workshop = splits.workshop(real, rng())
    assert np.bincount(workshop.train.labels).tolist() == [50] * 18
    practical = splits.practical(real, rng())
    assert sum(len(part.names) for part in all_parts(practical)) == 20_074
    leak_free = splits.best_leak_free(real, rng())
    assert not set(leak_free.train.names) & set(leak_free.test.names)
