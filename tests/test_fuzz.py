"""A few of the cases of ``python -m tests.campaign --only fuzz``, always the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from tests import untrained
from tests.campaign import fuzz
from tests.campaign.programs import SAMPLE
from train import predict, sample
from train.names.settings import SETTINGS


def few(number: int) -> settings:
    """So many cases, the same in every run."""
    return settings(max_examples=number, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """Where hypothesis keeps what it finds; not in the checkout."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("names")
    return untrained.names_run(path, "practical", "linear", hidden_size=8)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    path = tmp_path_factory.mktemp("charlm")
    return untrained.charlm_run(path, SAMPLE / "script.txt", hidden_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("drawn")


@few(40)
@given(drawn=st.lists(fuzz.texts, min_size=1, max_size=3), as_json=st.booleans())
def test_names_that_are_typed(classifier, drawn, as_json):
    assert fuzz.ask_predict(classifier, drawn, as_json, 3) == ""


@few(20)
@given(drawn=st.lists(fuzz.texts, min_size=1, max_size=3))
def test_names_that_are_flags(classifier, drawn):
    assert fuzz.ask_predict_flags(classifier, drawn) == ""


@few(15)
@given(drawn=fuzz.sample_flags)
def test_prompts_and_numbers(writer, drawn):
    assert fuzz.ask_sample(writer, drawn) == ""


@few(40)
@given(content=fuzz.weight_files(), to_file=st.booleans())
def test_files_of_weights(folder, content, to_file):
    with fuzz.watched(folder) as outside:
        assert fuzz.ask_convert(folder, content, to_file) == ""
    assert outside == []


@few(30)
@given(drawn=fuzz.folders, recipe=st.sampled_from(sorted(SETTINGS)))
def test_folders_of_names(tmp_path_factory, drawn, recipe):
    path = tmp_path_factory.mktemp("folder") / "data"
    fuzz.make_folder(path, drawn)
    assert fuzz.ask_names_loader(path, recipe) == ""


@few(40)
@given(content=fuzz.lines, joined=st.booleans(), as_bytes=st.booleans())
def test_texts(folder, content, joined, as_bytes):
    path = folder / "text.txt"
    assert fuzz.ask_text_loader(path, content, joined, as_bytes) == ""


@few(20)
@given(change=fuzz.changes, of_names=st.booleans())
def test_changed_configurations(classifier, writer, change, of_names):
    run, program = (classifier, predict) if of_names else (writer, sample)
    path = run / "config.json"
    written = path.read_text(encoding="utf-8")
    config = fuzz.change_at(json.loads(written), *change)
    try:
        assert fuzz.ask_changed_config(run, config, program) == ""
    finally:
        path.write_text(written, encoding="utf-8")
