import collections
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from train import datasets
from train.cli import InputError
from train.fetch import download as fetch

GREEK = b"Adamidis\nAdamou\nVlahos\n"
IRISH = "Ó Briain\nÓ Dónaill\n".encode()
TEXT = b"JOEY: How you doin'?\n"


def hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def languages(tmp_path):
    """Write language files; return their directory."""

    def write(**files: bytes) -> Path:
        directory = tmp_path / "languages"
        directory.mkdir(exist_ok=True)
        for language, content in files.items():
            (directory / f"{language}.txt").write_bytes(content)
        return directory

    return write


# load_names


def test_names_come_language_by_language(languages):
    directory = languages(Irish=IRISH, Greek=GREEK)
    data = datasets.load_names(directory)
    assert data.languages == ("Greek", "Irish")
    assert data.names == ("Adamidis", "Adamou", "Vlahos", "Ó Briain", "Ó Dónaill")
    np.testing.assert_array_equal(data.labels, [0, 0, 0, 1, 1])
    assert data.labels.dtype == np.int32
    assert data.directory == directory
    assert data.note.startswith("5 names in 2 languages (")


@pytest.mark.parametrize(
    "greek",
    [
        b"\xef\xbb\xbf" + GREEK,
        GREEK.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GREEK.replace(b"\n", b"\r\n"),
        GREEK.replace(b"\n", b"\r"),
        GREEK.rstrip(),
        b"\n" + GREEK.replace(b"\n", b"\n\n") + b"  \n\n",
    ],
    ids=["BOM", "CRLF", "BOM and CRLF", "CR", "no last line end", "blank lines"],
)
def test_how_a_file_was_saved_makes_no_difference(languages, greek):
    plain = datasets.load_names(languages(Greek=GREEK, Irish=IRISH))
    assert datasets.load_names(languages(Greek=greek)).names == plain.names


def test_spaces_and_unusual_letters_stay(languages):
    names = " Ó Briain", "To The First Page\u00a0", "O'Neàl,1", "علی\u200cرضا"
    directory = languages(Greek=GREEK, Irish="\n".join(names).encode())
    assert datasets.load_names(directory).names[3:] == names


def test_names_are_not_made_unique(languages):
    directory = languages(Greek=b"Adamou\nAdamou\n", Irish=b"Adamou\n")
    assert datasets.load_names(directory).names == ("Adamou",) * 3


def test_other_files_are_ignored(languages):
    directory = languages(Greek=GREEK, Irish=IRISH)
    (directory / "README.md").write_text("about")
    (directory / "._Greek.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    assert datasets.load_names(directory).languages == ("Greek", "Irish")


@pytest.mark.parametrize(
    ("irish", "message"),
    [
        (b"", r"Irish\.txt has no names; expected one a line"),
        (b"\n \r\n", r"Irish\.txt has no names"),
        (b"\xef\xbb\xbf", r"Irish\.txt has no names"),
        (b"Byrne\n\xd3 Briain\n", r"Irish\.txt, line 2: byte 6 .*\(0xd3\).*as UTF-8"),
        ("Byrne".encode("utf-16"), r"line 1: byte 0 of the file \(0xff\) is not UTF-8"),
        (b"Byrne\n\x00\n", r"Irish\.txt, line 2: control character U\+0000"),
        (b"Byrne\tByrd\n", r"Irish\.txt, line 1: control character U\+0009"),
        (b"\x1b[31mByrne\n", r"line 1: control character U\+001B"),
        ("Byrne\u0085\n".encode(), r"line 1: control character U\+0085"),
        ("a\u2028b\n".encode(), r"line 1: control character U\+2028"),
        (b"a\r\nb\r\n" + b"x" * 1001, r"Irish\.txt, line 3: 1,001 characters;.*1,000"),
    ],
    ids=str,
)
def test_unusable_language_file(languages, irish, message):
    with pytest.raises(InputError, match=message):
        datasets.load_names(languages(Greek=GREEK, Irish=irish))


def test_longest_name(languages):
    data = datasets.load_names(languages(Greek=GREEK, Irish=b"x" * 1000))
    assert len(data.names[-1]) == 1000


def test_language_file_that_is_too_large(languages, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_NAMES_FILE", 22)
    with pytest.raises(InputError, match=r"Greek\.txt is too large; .* 22 bytes"):
        datasets.load_names(languages(Greek=GREEK, Irish=IRISH))


def test_language_that_is_a_directory(languages):
    directory = languages(Greek=GREEK)
    (directory / "Irish.txt").mkdir()
    with pytest.raises(InputError, match=r"Irish\.txt is a directory"):
        datasets.load_names(directory)


def test_language_that_is_a_broken_link(languages):
    directory = languages(Greek=GREEK)
    (directory / "Irish.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"Irish\.txt does not exist"):
        datasets.load_names(directory)


@pytest.mark.parametrize("name", [b"Ir\x1bish.txt", b"Ir\xffish.txt"])
def test_language_with_an_unprintable_name(languages, name):
    directory = languages(Greek=GREEK)
    try:
        Path(os.fsdecode(os.fsencode(directory) + b"/" + name)).write_bytes(IRISH)
    except OSError:
        pytest.skip("this file system refuses such names itself")
    with pytest.raises(InputError, match="control character in its name"):
        datasets.load_names(directory)


def test_directory_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"absent does not exist; expected a director"):
        datasets.load_names(tmp_path / "absent")


def test_directory_that_is_a_file(languages):
    with pytest.raises(InputError, match=r"Greek\.txt is not a directory; expected"):
        datasets.load_names(languages(Greek=GREEK) / "Greek.txt")


@pytest.mark.parametrize("count", [0, 1, 1001])
def test_number_of_languages(languages, count):
    directory = languages(**{f"L{index}": GREEK for index in range(count)})
    with pytest.raises(InputError, match=rf"has {count:,} \.txt files; .*2 to 1,000"):
        datasets.load_names(directory)


# find_names and find_text


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder with samples only; small data sets that nothing can fetch."""
    sample = tmp_path / "sample" / "names"
    sample.mkdir(parents=True)
    (sample / "Elvish.txt").write_text("Elrond\nGaladriel\n")
    (sample / "Klingon.txt").write_text("Worf\n")
    (tmp_path / "sample" / "script.txt").write_text("ANNA: Hello.\n")
    monkeypatch.setattr(datasets, "SAMPLE_NAMES", sample)
    monkeypatch.setattr(datasets, "SAMPLE_SCRIPT", tmp_path / "sample" / "script.txt")
    for constant, name in [
        ("NAMES", "names"),
        ("FRIENDS", "friends.txt"),
        ("SHAKESPEARE", "shakespeare.txt"),
    ]:
        monkeypatch.setattr(datasets, constant, tmp_path / name)
    names = fetch.Archive(
        "names",
        "http://rnnjax.invalid",
        "",
        {"Greek.txt": (3, hashed(GREEK)), "Irish.txt": (2, hashed(IRISH))},
    )
    text = fetch.TextFile("text", "http://rnnjax.invalid", len(TEXT), hashed(TEXT))
    monkeypatch.setattr(
        fetch, "DATA_SETS", {"names": names, "friends": text, "shakespeare": text}
    )
    monkeypatch.delenv("RNNJAX_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)
    datasets._try_to_fetch.cache_clear()
    yield tmp_path
    datasets._try_to_fetch.cache_clear()


@pytest.fixture
def network(monkeypatch):
    """A network that brings, or raises, what is put in it; it counts the tries."""

    class Network:
        brings = fetch.Unreachable("no such host")
        tries = 0

        def fetch(self, data_set, path, timeout):
            self.tries += 1
            assert timeout == 3
            if isinstance(self.brings, Exception):
                raise self.brings
            self.brings(path)

    network = Network()
    monkeypatch.setattr(fetch, "fetch", network.fetch)
    return network


def put_names(directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "Greek.txt").write_bytes(GREEK)
    (directory / "Irish.txt").write_bytes(IRISH)


def test_given_names_come_first(home, network, languages):
    put_names(home / "names")
    data = datasets.find_names(languages(A=b"a\n", B=b"b\n"))
    assert data.names == ("a", "b")
    assert data.note == "2 names in 2 languages (languages)"
    assert network.tries == 0


def test_given_names_that_are_bad_are_an_error(home, network):
    with pytest.raises(InputError, match="absent does not exist"):
        datasets.find_names(home / "absent")


def test_fetched_names_come_next(home, network):
    put_names(home / "names")
    data = datasets.find_names(None)
    assert data.languages == ("Greek", "Irish")
    assert data.note == "5 names in 2 languages (names)"
    assert network.tries == 0


def test_names_are_fetched(home, network):
    network.brings = put_names
    assert datasets.find_names(None).note == "5 names in 2 languages (names)"
    assert network.tries == 1


def test_sample_of_names_comes_last_after_one_try(home, network):
    for _ in range(2):
        data = datasets.find_names(None)
        assert data.names == ("Elrond", "Galadriel", "Worf")
        assert data.directory == datasets.SAMPLE_NAMES
        assert data.note == (
            "no network: training on the bundled sample of 3 names (sample/names); "
            "python -m train.fetch names gets the real set"
        )
    assert network.tries == 1


def test_names_that_appear_after_a_failed_try_are_found(home, network):
    datasets.find_names(None)
    put_names(home / "names")
    assert datasets.find_names(None).languages == ("Greek", "Irish")


def test_incomplete_names_are_not_trained_on(home, network):
    put_names(home / "names")
    (home / "names" / "Irish.txt").unlink()
    assert datasets.find_names(None).languages == ("Elvish", "Klingon")
    assert network.tries == 1


@pytest.mark.parametrize(
    "error", [InputError("wrong\x1bhash"), OSError(28, "wrong\x1bhash")]
)
def test_other_failures_are_said(home, network, error):
    network.brings = error
    note = datasets.find_names(None).note
    assert note.startswith("names could not be fetched (")
    assert r"wrong\x1bhash): training on the bundled sample" in note


def test_offline_does_not_try(home, network, monkeypatch):
    monkeypatch.setenv("RNNJAX_OFFLINE", "1")
    note = datasets.find_names(None).note
    assert note.startswith("RNNJAX_OFFLINE is set: training on the bundled sample")
    assert network.tries == 0


def test_notes_are_safe_to_print(home, network, languages):
    directory = languages(A=b"a\n", B=b"b\n").rename(home / "\x1b[31m")
    assert datasets.find_names(directory).note.endswith(r"(\x1b[31m)")


def test_given_text_comes_first(home, network):
    (home / "friends.txt").write_bytes(TEXT)
    (home / "my.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    data = datasets.find_text(Path("my.txt"), "friends")
    assert data == ("one\ntwo\nthree", "my.txt", "13 characters (my.txt)")
    assert network.tries == 0


@pytest.mark.parametrize("kind", ["friends", "shakespeare"])
def test_fetched_text_comes_next(home, network, kind):
    (home / f"{kind}.txt").write_bytes(TEXT)
    data = datasets.find_text(None, kind)
    assert data.text == TEXT.decode()
    assert data.source == str(home / f"{kind}.txt")
    assert data.note == f"21 characters ({kind}.txt)"
    assert network.tries == 0


def test_text_is_fetched(home, network):
    network.brings = lambda path: path.write_bytes(TEXT)
    assert datasets.find_text(None, "shakespeare").text == TEXT.decode()
    assert network.tries == 1


@pytest.mark.parametrize("kind", ["friends", "shakespeare"])
def test_sample_of_text_comes_last_after_one_try(home, network, kind):
    for _ in range(2):
        data = datasets.find_text(None, kind)
        assert data.text == "ANNA: Hello.\n"
        assert data.note == (
            "no network: training on the bundled sample of 13 characters "
            f"(sample/script.txt); python -m train.fetch {kind} gets the real text"
        )
    assert network.tries == 1


@pytest.mark.parametrize("builtin", ["builtin", Path("builtin")])
def test_builtin_text(home, network, builtin):
    data = datasets.find_text(builtin, "friends")
    assert len(data.text) > 300_000
    assert data.source == "builtin"
    assert "Python's help topics" in data.note
    assert network.tries == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text\.txt is empty; expected a text"),
        (b"\xef\xbb\xbf \n", r"text\.txt is empty"),
        (
            b"abc\ndef\xff",
            r"text\.txt, line 2: byte 7 of the file \(0xff\) is not UTF-8",
        ),
    ],
)
def test_unusable_text(home, network, content, message):
    (home / "text.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        datasets.find_text(home / "text.txt", "friends")


def test_text_that_is_no_file(home, network):
    with pytest.raises(
        InputError, match=r"absent\.txt does not exist; expected a file"
    ):
        datasets.find_text(home / "absent.txt", "friends")
    with pytest.raises(InputError, match="sample is a directory; expected a file"):
        datasets.find_text(home / "sample", "friends")


def test_text_that_is_too_large(home, network, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_TEXT", 3)
    (home / "text.txt").write_bytes(b"four")
    with pytest.raises(InputError, match="too large; expected at most 3 bytes"):
        datasets.find_text(home / "text.txt", "friends")


# What is bundled, and what is real


def test_bundled_sample_has_eighteen_languages():
    data = datasets.load_names(datasets.SAMPLE_NAMES)
    expected = fetch.DATA_SETS["names"].files
    assert {f"{language}.txt" for language in data.languages} == set(expected)
    assert min(collections.Counter(data.labels.tolist()).values()) >= 100


@pytest.mark.skipif(
    not Path(os.environ.get("RNNJAX_DATA", "/nonexistent"), "names").is_dir(),
    reason="RNNJAX_DATA names no folder with names/",
)
def test_real_names():
    data = datasets.load_names(Path(os.environ["RNNJAX_DATA"]) / "names")
    assert len(data.names) == len(data.labels) == 20_074
    assert len(data.languages) == 18
    assert data.languages[data.labels[-1]] == "Vietnamese"
