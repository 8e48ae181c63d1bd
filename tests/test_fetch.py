import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import itertools
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.parse
import warnings
import zipfile
from pathlib import Path

import pytest

from train import cli
from train.cli import InputError
from train.fetch import __main__ as program
from train.fetch import download as fetch

ROOT = Path(__file__).resolve().parent.parent
FOLDER = "data/names/"
GOOD = {
    "Greek.txt": b"Adamidis\nAdamou\nVlahos\n",
    "Irish.txt": "Ó Briain\nÓ Dónaill\n".encode(),
}
TEXT = b"JOEY: How you doin'?\n"


def archive_of(files: dict[str, bytes], url="http://127.0.0.1:9/data.zip"):
    return fetch.Archive(
        name="names",
        url=url,
        folder=FOLDER,
        files={
            name: (
                len(content.decode().strip().split("\n")),
                hashlib.sha256(content).hexdigest(),
            )
            for name, content in files.items()
        },
    )


NAMES = archive_of(GOOD)
SCRIPT = fetch.TextFile(
    name="script.txt",
    url="http://127.0.0.1:9/script.txt",
    size=len(TEXT),
    sha256=hashlib.sha256(TEXT).hexdigest(),
)


def zip_of(*members, files=GOOD, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """Zip the files where they belong, and (name or ZipInfo, content) pairs as such."""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as zip:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, member in files.items():
            zip.writestr(FOLDER + name, member)
        for name, member in members:
            zip.writestr(name, member)
    return content.getvalue()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def target(tmp_path):
    """A place for the data, in a folder that has nothing else."""
    return tmp_path / "data" / "names"


@pytest.fixture
def local(tmp_path):
    """Write bytes to a file beside the data; return its path."""

    def write(content: bytes) -> Path:
        path = tmp_path / "download"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def refused(target, local):
    """Fetch from a bad zip; assert that nothing is left of it; return the message."""

    def refuse(content: bytes, archive=NAMES) -> str:
        with pytest.raises(InputError) as caught:
            fetch.fetch(archive, target, file=local(content))
        assert not target.exists()
        assert not target.parent.exists() or not any(target.parent.iterdir())
        return str(caught.value)

    return refuse


@pytest.fixture
def serve():
    """Answer requests on this machine with a function of the handler; return a URL."""
    with contextlib.ExitStack() as stack:

        def start(answer) -> str:
            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_GET(self):
                    with contextlib.suppress(ConnectionError):
                        answer(self)

                def log_message(self, *args):
                    pass

            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            stack.callback(server.server_close)
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/data.zip"

        yield start


def answer_with(content: bytes, status=200, **headers):
    """Return an answer; a header's underscores stand for hyphens."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


# From a file


def test_local_zip_is_fetched(target, local):
    done = fetch.fetch(NAMES, target, file=local(zip_of()))
    assert done == f"fetched: {target} (5 names in 2 languages)"
    assert contents(target) == GOOD
    assert [path.name for path in target.parent.iterdir()] == ["names"]
    assert stat.S_IMODE(target.stat().st_mode) & 0o500 == 0o500


def test_again_verifies_and_touches_nothing(target, local):
    fetch.fetch(NAMES, target, file=local(zip_of()))
    before = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    done = fetch.fetch(NAMES, target, file=Path("no such file"))
    assert done == f"verified: {target} (5 names in 2 languages)"
    assert {path: path.stat().st_mtime_ns for path in target.iterdir()} == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: (directory / "Irish.txt").unlink(),
        lambda directory: (directory / "Irish.txt").write_bytes(b"\xff"),
        lambda directory: (directory / "Irish.txt").write_bytes(
            GOOD["Irish.txt"].replace(b"B", b"P")
        ),
        lambda directory: (directory / "Irish.txt").write_bytes(b"x" * (2**20 + 1)),
    ],
    ids=["missing", "not UTF-8", "one byte", "too large"],
)
def test_damaged_directory_is_replaced(target, local, damage):
    fetch.fetch(NAMES, target, file=local(zip_of()))
    damage(target)
    assert fetch.fetch(NAMES, target, file=local(zip_of())).startswith("fetched: ")
    assert contents(target) == GOOD
    assert [path.name for path in target.parent.iterdir()] == ["names"]


def test_damaged_directory_stays_when_the_zip_is_bad(target, local):
    target.mkdir(parents=True)
    (target / "Greek.txt").write_text("Adamou\n")
    with pytest.raises(InputError, match="not a zip"):
        fetch.fetch(NAMES, target, file=local(b"nothing"))
    assert contents(target) == {"Greek.txt": b"Adamou\n"}


def test_directory_with_other_things_is_not_replaced(target, local):
    target.mkdir(parents=True)
    (target / "thesis.doc").write_text("years of work")
    with pytest.raises(InputError, match=r"also holds thesis\.doc; move that away"):
        fetch.fetch(NAMES, target, file=local(zip_of()))
    assert contents(target) == {"thesis.doc": b"years of work"}


def test_file_in_the_place_of_the_directory_is_not_replaced(target, local):
    target.parent.mkdir()
    target.write_text("something")
    with pytest.raises(InputError, match="is a file; expected a directory or nothing"):
        fetch.fetch(NAMES, target, file=local(zip_of()))
    assert target.read_text() == "something"


def test_symbolic_link_to_the_directory_stays(tmp_path, target, local):
    target.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    target.symlink_to(elsewhere)
    fetch.fetch(NAMES, target, file=local(zip_of()))
    assert target.is_symlink()
    assert contents(elsewhere) == GOOD


@pytest.mark.parametrize(
    ("file", "message"),
    [("absent.zip", "does not exist; expected a file"), (".", "is a directory")],
)
def test_file_that_is_none(tmp_path, target, file, message):
    with pytest.raises(InputError, match=message):
        fetch.fetch(NAMES, target, file=tmp_path / file)


def test_endless_file_is_given_up(target):
    with pytest.raises(InputError, match="too large; expected at most 16,777,216"):
        fetch.fetch(NAMES, target, file=Path("/dev/zero"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("old", "call", "fail_at"),
    [
        *[
            (old, "fsync", at)
            for old in ({}, {"Irish.txt": b"Byrne\n"})
            for at in (1, 2)
        ],
        ({}, "rename", 1),
        ({"Irish.txt": b"Byrne\n"}, "rename", 1),
        ({"Irish.txt": b"Byrne\n"}, "rename", 2),
    ],
    ids=str,
)
def test_interrupted_installation_leaves_no_trace(
    target, local, monkeypatch, old, call, fail_at, error
):
    for name, content in old.items():
        target.mkdir(parents=True)
        (target / name).write_bytes(content)
    original = getattr(os, call)
    calls = itertools.count(1)

    def fail(*args):
        if next(calls) == fail_at:
            raise error
        return original(*args)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        fetch.fetch(NAMES, target, file=local(zip_of()))
    assert (contents(target) if target.exists() else {}) == old
    assert set(target.parent.iterdir()) <= {target}


def test_fetching_at_the_same_time(target, local):
    file = local(zip_of())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: fetch.fetch(NAMES, target, file=file), range(8)))
    assert contents(target) == GOOD
    assert [path.name for path in target.parent.iterdir()] == ["names"]


def test_folder_that_cannot_be_made(tmp_path, local):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match="out"):
        fetch.fetch(NAMES, tmp_path / "out" / "names", file=local(zip_of()))


# Zips that are not the published one


def test_not_a_zip(refused):
    assert "the zip is damaged, or is not a zip" in refused(b"<html>Sign in</html>")
    assert "the zip is damaged, or is not a zip" in refused(b"")


def test_every_truncated_zip_is_refused(refused):
    good = zip_of()
    for length in range(0, len(good), 7):
        assert "the zip is damaged" in refused(good[:length])


def test_flipped_bits_are_refused_or_harmless(target, local):
    rng = random.Random(0)
    good = zip_of()
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(InputError):
            fetch.fetch(NAMES, target, file=local(bytes(bad)))
            assert contents(target) == GOOD
            for path in target.iterdir():
                path.unlink()


def test_missing_member(refused):
    message = refused(zip_of(files={"Greek.txt": GOOD["Greek.txt"]}))
    assert "the zip has 0 members data/names/Irish.txt, expected 1" in message
    assert "--file" in message
    assert "--url" in message


def test_other_case_is_another_member(refused):
    message = refused(zip_of(files={"greek.TXT": b"x", "Irish.txt": b"y"}))
    assert "has 0 members data/names/Greek.txt" in message


@pytest.mark.parametrize("name", ["Irish.txt", "Irish.txt\0.exe"])
def test_duplicate_member(refused, name):
    message = refused(zip_of((FOLDER + name, b"Evil\n")))
    assert "the zip has 2 members data/names/Irish.txt, expected 1" in message


def test_wrong_count(refused):
    message = refused(zip_of(files={**GOOD, "Irish.txt": b"Byrne\n\n  \n"}))
    assert "data/names/Irish.txt in the zip has 1 names, expected 2" in message


def test_wrong_hash_names_the_file_and_both_hashes(refused):
    other = "Ó Briain\nÓ Dónaill".encode()
    message = refused(zip_of(files={**GOOD, "Irish.txt": other}))
    assert "data/names/Irish.txt in the zip has SHA-256" in message
    assert hashlib.sha256(other).hexdigest() in message
    assert NAMES.files["Irish.txt"][1] in message


def test_member_that_is_not_utf8(refused):
    message = refused(zip_of(files={**GOOD, "Irish.txt": b"Byrne\n\xd3 Briain\n"}))
    assert "data/names/Irish.txt in the zip is not UTF-8 at byte 6" in message


def test_bomb_is_given_up_within_little_memory(refused):
    bomb = zip_of(files={**GOOD, "Irish.txt": bytes(64 * 2**20)})
    assert len(bomb) < 2**17
    tracemalloc.start()
    try:
        message = refused(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "data/names/Irish.txt in the zip is larger than 1,048,576 bytes" in message
    assert peak < 8 * 2**20


def test_bomb_that_claims_to_be_small(refused):
    bomb = zip_of(files={**GOOD, "Irish.txt": bytes(2**21)})
    size = (2**21).to_bytes(4, "little")
    assert bomb.count(size) == 2
    assert "the zip is damaged" in refused(bomb.replace(size, b"\x10\0\0\0"))


def test_encrypted_member(refused):
    encrypted = bytearray(zip_of())
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    message = refused(bytes(encrypted))
    assert "data/names/Greek.txt in the zip is encrypted" in message


def test_unusual_compression(refused):
    message = refused(zip_of(compression=zipfile.ZIP_LZMA))
    assert "data/names/Greek.txt in the zip is neither stored nor deflated" in message


def test_very_many_members(refused):
    entry = zip_of()
    entry = entry[entry.index(b"PK\x01\x02") :]
    message = refused(zip_of((FOLDER + "more", entry * 5001), compression=0))
    assert "the zip has more than 10,000 members" in message


def symbolic_link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "member",
    [
        "../outside.txt",
        "data/names/../../../outside.txt",
        "/tmp/rnnjax-outside.txt",
        "..\\outside.txt",
        "C:\\outside.txt",
        symbolic_link("data/names/link.txt"),
        symbolic_link("data"),
        "data/eng-fra.txt",
        "data/names/Klingon.txt",
        "data/names/greek.txt",
        "nested.zip",
    ],
    ids=str,
)
def test_other_members_are_ignored(tmp_path, target, local, member):
    fetch.fetch(NAMES, target, file=local(zip_of((member, b"/etc/passwd"))))
    assert contents(target) == GOOD
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("download", "data", "names"),
        *GOOD,
    }
    assert not Path("/tmp/rnnjax-outside.txt").exists()


def test_symbolic_link_in_the_place_of_a_file(refused):
    link = symbolic_link(FOLDER + "Irish.txt")
    files = {"Greek.txt": GOOD["Greek.txt"]}
    message = refused(zip_of((link, b"/etc/passwd"), files=files))
    assert "data/names/Irish.txt in the zip has 1 names, expected 2" in message


# From the network


def test_download(target, serve, capsys):
    content = zip_of()
    agents = []

    def answer(handler):
        agents.append(handler.headers["User-Agent"])
        answer_with(content, Content_Length=len(content))(handler)

    fetch.fetch(archive_of(GOOD, serve(answer)), target)
    assert contents(target) == GOOD
    assert agents == ["rnnjax"]
    assert capsys.readouterr() == ("", "")  # no progress bar without a terminal


def test_url_takes_the_place_of_the_usual_one(target, serve):
    fetch.fetch(NAMES, target, url=serve(answer_with(zip_of())))
    assert contents(target) == GOOD


def test_redirection_is_followed(target, serve):
    there = serve(answer_with(zip_of()))
    here = serve(answer_with(b"", 302, Location=there, Content_Length=0))
    fetch.fetch(NAMES, target, url=here)
    assert contents(target) == GOOD


@pytest.mark.parametrize("scheme", ["ftp", "file", "data"])
def test_redirection_to_another_scheme_is_not(target, serve, scheme):
    there = f"{scheme}://localhost/etc/passwd"
    here = serve(answer_with(b"", 302, Location=there, Content_Length=0))
    with pytest.raises(InputError, match=rf"127\.0\.0\.1.*{scheme}"):
        fetch.fetch(NAMES, target, url=here)
    assert not target.parent.exists()


@pytest.mark.parametrize(
    "url", ["ftp://localhost/a", "file:///etc/passwd", "data:,a", "data.zip", ""]
)
def test_only_http_and_https(url):
    with pytest.raises(InputError, match="is not an http or https address.*--file"):
        fetch.download(url, timeout=5)


@pytest.mark.parametrize("url", ["http://", "http://a b/", "http://[::1/", "http://é/"])
def test_impossible_address(url):
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch.download(url, timeout=5)


def test_http_error(serve):
    url = serve(answer_with(b"gone", 404, Content_Length=4))
    with pytest.raises(InputError, match="answered HTTP 404 Not Found.*--url") as error:
        fetch.download(url, timeout=5)
    assert not isinstance(error.value, fetch.Unreachable)


def test_truncated_download(target, serve):
    content = zip_of()
    url = serve(answer_with(content[:50], Content_Length=len(content)))
    with pytest.raises(InputError, match=f"ended after 50 of {len(content)} bytes"):
        fetch.fetch(NAMES, target, url=url)
    assert not target.parent.exists()


def test_truncated_chunks(serve):
    url = serve(answer_with(b"ff\r\nabc", Transfer_Encoding="chunked"))
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch.download(url, timeout=5)


def test_chunks(serve):
    url = serve(answer_with(b"3\r\nabc\r\n0\r\n\r\n", Transfer_Encoding="chunked"))
    assert fetch.download(url, timeout=5) == b"abc"


def test_size_may_be_unsaid_or_senseless(serve):
    assert fetch.download(serve(answer_with(b"abc")), timeout=5) == b"abc"
    url = serve(answer_with(b"abc", Content_Length="-7"))
    assert fetch.download(url, timeout=5) == b"abc"


def test_endless_download_is_given_up(serve):
    def answer(handler):
        answer_with(b"")(handler)
        while True:
            handler.wfile.write(bytes(2**16))

    with pytest.raises(InputError, match="larger than the 1,000,000 bytes allowed"):
        fetch.download(serve(answer), timeout=5, limit=1_000_000)


def test_download_announced_as_too_large_is_not_waited_for(serve):
    url = serve(answer_with(b"abc", Content_Length=10**12))
    with pytest.raises(InputError, match="larger than the 16,777,216 bytes allowed"):
        fetch.download(url, timeout=5)


def test_connection_refused():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(fetch.Unreachable, match="refused.*--file.*--url"):
            fetch.download(url, timeout=5)


def test_silent_server_times_out(serve):
    done = threading.Event()
    url = serve(lambda handler: done.wait(10))
    start = time.monotonic()
    with pytest.raises(fetch.Unreachable, match=r"did not answer within 0\.2 s"):
        fetch.download(url, timeout=0.2)
    done.set()
    assert time.monotonic() - start < 2


def test_server_that_drips_times_out(serve):
    done = threading.Event()

    def answer(handler):
        answer_with(b"")(handler)
        while not done.wait(0.02):
            handler.wfile.write(b"x")

    url = serve(answer)
    start = time.monotonic()
    with pytest.raises(fetch.Unreachable, match=r"did not answer within 0\.05 s"):
        fetch.download(url, timeout=0.05)
    done.set()
    assert time.monotonic() - start < 3


def test_look_up_of_a_name_times_out(monkeypatch):
    done = threading.Event()

    def look_up(*args, **kwargs):
        done.wait(10)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    with pytest.raises(fetch.Unreachable, match="did not answer"):
        fetch.download("http://rnnjax.invalid/", timeout=0.1)
    done.set()
    assert time.monotonic() - start < 2


# Texts


def test_text_is_fetched_verified_and_replaced(tmp_path, local):
    path = tmp_path / "data" / "script.txt"
    file = local(TEXT)
    done = f"{path} ({len(TEXT)} bytes)"
    assert fetch.fetch(SCRIPT, path, file=file) == f"fetched: {done}"
    assert fetch.fetch(SCRIPT, path, file=file) == f"verified: {done}"
    path.write_bytes(TEXT[:-1])
    assert fetch.fetch(SCRIPT, path, file=file) == f"fetched: {done}"
    assert path.read_bytes() == TEXT
    assert [path.name for path in path.parent.iterdir()] == ["script.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT[:-1], f"has {len(TEXT) - 1} bytes, expected {len(TEXT)}"),
        (TEXT.lower(), f"has SHA-256 .*, expected {SCRIPT.sha256}"),
    ],
)
def test_other_text_is_refused(tmp_path, local, content, message):
    path = tmp_path / "data" / "script.txt"
    with pytest.raises(InputError, match=message):
        fetch.fetch(SCRIPT, path, file=local(content))
    assert not path.parent.exists()


def test_directory_in_the_place_of_the_text_is_not_replaced(tmp_path, local):
    (tmp_path / "script.txt").mkdir()
    with pytest.raises(InputError, match="is a directory; expected a file or nothing"):
        fetch.fetch(SCRIPT, tmp_path / "script.txt", file=local(TEXT))


# The command line


def command(*flags) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "train.fetch", *map(str, flags)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("flags", "suggestion"),
    [(["bogus"], "shakespeare"), (["names", "--fiel", "data.zip"], "--file")],
    ids=str,
)
def test_command_refuses_what_it_does_not_know(flags, suggestion):
    done = command(*flags)
    assert done.returncode == 2
    assert flags[-1 if len(flags) == 1 else 1] in done.stderr
    assert suggestion in done.stderr
    assert "python -m train.fetch --help" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_fails_in_one_line(tmp_path):
    done = command("names", "--file", __file__, "--out", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the zip is damaged, or is not a zip (")
    assert done.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--url", "ftp://a", "--file", "b"], "--url and --file were both given"),
        (["--file", "a"], "--url and --file are for one data set, not 3; say which"),
        (["names", "friends", "--url", "a"], "are for one data set, not 2; say which"),
        (["names", "--timeout", "0"], "--timeout is 0; expected seconds"),
        (["names", "--timeout", "nan"], "--timeout is nan; expected seconds"),
        (["names", "--url", "ftp://a"], "ftp://a is not an http or https address"),
        (["names", "--file", "a\x1b[31m"], "a\\x1b[31m does not exist"),
        (["friends", "--url", "http://127.0.0.1:9/"], "could not be downloaded"),
    ],
    ids=str,
)
def test_flags_that_cannot_be_used(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(sys, "argv", ["fetch", *flags, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.run(program.main, program.Config, "Fetch.")
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_all_data_sets_are_fetched_one_line_each(tmp_path, monkeypatch, capsys, serve):
    names = archive_of(GOOD, serve(answer_with(zip_of())))
    text = dataclasses.replace(SCRIPT, url=serve(answer_with(TEXT)))
    monkeypatch.setattr(program, "DATA_SETS", {"names": names, "friends": text})
    program.main(program.Config(what=("names", "friends"), out=tmp_path))
    assert capsys.readouterr().out == (
        f"fetched: {tmp_path}/names (5 names in 2 languages)\n"
        f"fetched: {tmp_path}/script.txt ({len(TEXT)} bytes)\n"
    )


def test_usual_addresses_are_https():
    for data_set in fetch.DATA_SETS.values():
        assert urllib.parse.urlsplit(data_set.url).scheme == "https"


# The real data: RNNJAX_DATA=<folder with names/ and the texts> python -m pytest

REAL = Path(os.environ.get("RNNJAX_DATA", "/nonexistent"))
needs_real_data = pytest.mark.skipif(
    not (REAL / "names").is_dir(), reason="RNNJAX_DATA names no folder with names/"
)


@needs_real_data
def test_all_real_names(tmp_path):
    files = contents(REAL / "names")
    zip_path = tmp_path / "data.zip"
    zip_path.write_bytes(zip_of(("data/eng-fra.txt", b"Go.\tVa !\n"), files=files))
    for done in ("fetched", "verified"):
        result = command("names", "--file", zip_path, "--out", tmp_path)
        assert result.stdout == (
            f"{done}: {tmp_path}/names (20,074 names in 18 languages)\n"
        )
        assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "names") == files


@needs_real_data
@pytest.mark.parametrize("what", ["friends", "shakespeare"])
def test_real_texts(tmp_path, what):
    data_set = fetch.DATA_SETS[what]
    done = fetch.fetch(data_set, tmp_path / "text", file=REAL / data_set.name)
    assert done.startswith("fetched: ")
