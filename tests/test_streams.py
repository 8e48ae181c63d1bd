"""Texts as tokens, cut into streams and windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnjax.truncated import even_windows
from train.charlm import text as streams
from train.charlm.text import (
    lesson_windows,
    read_text,
    stream_windows,
    survey,
    tokenize,
)
from train.cli import InputError
from train.codec import Codec, join_lines


def lesson_batches(text, batch_size, seq_len):
    """Lesson 002's cells, as they stand: the chunks of every window of an epoch."""
    T = len(text)
    CHUNK_SIZE = T // batch_size
    trainset = [
        text[beg_i:end_i]
        for beg_i, end_i in zip(
            range(0, T - CHUNK_SIZE, CHUNK_SIZE),
            range(CHUNK_SIZE, T, CHUNK_SIZE),
            strict=False,
        )
    ]
    batches = []
    for beg_t, end_t in zip(
        range(0, CHUNK_SIZE - seq_len - 1, seq_len + 1),
        range(seq_len + 1, CHUNK_SIZE, seq_len + 1),
        strict=False,
    ):
        batches.append([sent[beg_t:end_t] for sent in trainset])
    return batches


@given(
    st.integers(2, 9),
    st.integers(1, 7),
    st.integers(0, 400),
)
@settings(deadline=None)
def test_lesson_windows_are_the_lessons(batch_size, window, extra):
    num_tokens = batch_size * (window + 2) + extra
    tokens = np.arange(num_tokens)
    expected = lesson_batches(tokens, batch_size, window)
    windows = lesson_windows(num_tokens, batch_size, window)
    actual = windows.cut(tokens, 0, len(windows.window_starts))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("num_tokens", "num_streams", "num_windows"),
    [(23149, 64, 7), (64 * 200, 63, 3), (64 * 200 + 1, 64, 3), (64 * 52, 63, 1)],
)
def test_lesson_has_64_streams_or_63(num_tokens, num_streams, num_windows):
    windows = lesson_windows(num_tokens, 64, 50)
    assert len(windows.stream_starts) == num_streams
    assert len(windows.window_starts) == num_windows


def test_too_short_for_the_lesson():
    assert len(lesson_windows(64 * 52, 64, 50).window_starts) == 1
    with pytest.raises(InputError, match=r"has 3,327 .* need at least 3,328; give a"):
        lesson_windows(64 * 52 - 1, 64, 50)
    with pytest.raises(InputError, match="--batch-size is 1; .* needs at least 2"):
        lesson_windows(1000, 1, 50)


@pytest.mark.parametrize("num_tokens", [13, 24, 25, 26, 100])
def test_even_windows_predict_each_token_once(num_tokens):
    windows = even_windows(num_tokens, 4, 3)
    num = len(windows.window_starts)
    assert num == (num_tokens - 1) // 12
    targets = windows.cut(np.arange(num_tokens), 0, num)[..., 1:]
    assert sorted(targets.ravel()) == list(range(1, 12 * num + 1))


def test_windows_go_on_and_begin_again():
    windows = even_windows(25, 4, 3)
    tokens = np.arange(25)
    first, second, again = windows.cut(tokens, 0, 3)
    np.testing.assert_array_equal(first[:, -1], second[:, 0])
    np.testing.assert_array_equal(again, first)


def test_too_short_for_streams():
    stream_windows(13, 4, 3)
    with pytest.raises(InputError, match="leaves 12 tokens .* need at least 13; give"):
        stream_windows(12, 4, 3)


def test_lines_are_joined_as_in_the_lesson(tmp_path):
    text = "Monica: Hi! \n\n \t\n  Ross: Hi.\nChandler: $5\n"
    path = tmp_path / "text.txt"
    path.write_text(text)
    with path.open() as lines:
        expected = "$".join(line.rstrip() for line in lines if line.rstrip() != "")
    assert join_lines(text) == expected


def test_characters_are_numbered_by_first_appearance(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("b a\n\nb c")
    text = read_text(path, "friends", joined=True)
    codec = survey(text, "chars", "$").codec
    assert codec.alphabet == "b a$c"
    assert tokenize(text, codec, tmp_path / "t.bin").tolist() == [0, 1, 2, 3, 0, 1, 4]


def test_bytes():
    codec = Codec(None)
    tokens = codec.encode("é\n")
    assert (codec.vocab_size, tokens.tolist()) == (256, [0xC3, 0xA9, 10])
    decode = codec.decoder()
    assert [decode([0xC3]), decode([0xA9, 0xFF])] == ["", "é\N{REPLACEMENT CHARACTER}"]
    assert codec.decode(tokens) == "é\n"


def test_unknown_characters_are_spelt_or_left_out():
    codec = Codec("abes '\n")
    assert codec.spell("bé ß’日a\n") == ("be ss'a\n", "éß’日")
    assert Codec("ab$", line_end="$").spell("a\nb") == ("a$b", "")
    assert Codec(None).spell("日") == ("日", "")
    with pytest.raises(ValueError, match="'é' not in the vocabulary"):
        codec.encode("é")


def test_many_characters_take_two_bytes(tmp_path):
    alphabet = "".join(map(chr, range(1000, 1300)))
    path = tmp_path / "text.txt"
    path.write_text(alphabet)
    text = read_text(path, "shakespeare", joined=False)
    codec = survey(text, "chars").codec
    assert codec.dtype == np.uint16
    assert codec.decode(tokenize(text, codec, tmp_path / "t.bin")) == alphabet


@pytest.mark.parametrize("kind", ["chars", "bytes"])
def test_large_text_is_tokens_in_a_file(kind, tmp_path, monkeypatch):
    path, tokens_path = tmp_path / "text.txt", tmp_path / "tokens.bin"
    written = "Ünder the\r\nmilk wood\n" * 9
    path.write_bytes(written.encode())
    small = read_text(path, "shakespeare", joined=False)
    monkeypatch.setattr(streams, "LARGE", 10)
    monkeypatch.setattr(streams, "CHARACTERS_AT_ONCE", 7)
    large = read_text(path, "shakespeare", joined=False)
    assert large.is_large and not small.is_large
    assert survey(large, kind) == survey(small, kind)
    codec = survey(large, kind).codec
    tokens = tokenize(large, codec, tokens_path)
    assert isinstance(tokens, np.memmap)
    np.testing.assert_array_equal(tokens, tokenize(small, codec, tokens_path))
    path.unlink()  # the second time, the file of tokens is enough
    np.testing.assert_array_equal(tokens, tokenize(large, codec, tokens_path))
    windows = stream_windows(len(tokens), 2, 5)
    assert windows.cut(tokens, 0, 2).shape == (2, 2, 6)


def test_large_text_that_is_not_utf8(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_bytes(b"caf\xe9 " * 9)
    monkeypatch.setattr(streams, "LARGE", 10)
    with pytest.raises(InputError, match="text.txt is not UTF-8"):
        survey(read_text(path, "shakespeare", joined=False), "chars")
    with pytest.raises(InputError, match="the recipe lab keeps its text in memory"):
        read_text(path, "friends", joined=True)
