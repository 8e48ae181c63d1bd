"""Download a data set, verify it, and put it where the programs look.

A download stays in memory until everything about it is verified: it is a few megabytes,
and a bad one leaves no trace on the disk.
"""

import contextlib
import hashlib
import http.client
import io
import os
import queue
import struct
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from train import cli
from train.runs.files import lock, sync

DATA = Path(__file__).resolve().parents[2] / "data"

# Bytes. data.zip has about 3 million; the largest file of names has 85,605.
MAX_DOWNLOAD = 16 * 2**20
MAX_MEMBER = 2**20
MAX_MEMBERS = 10_000

# Names in each file, as the lessons count them, and the file's SHA-256. No hash of
# data.zip is published, and it holds more than the names: these are of the members.
_NAME_FILES = """\
2000 6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc Arabic.txt
 268 49263ef55a8cb1740e841d65cad8214b2f9b5b869bc534c811746422496fa91e Chinese.txt
 519 145bbbd6d0816578f03388e92c264d39ef1c60df920b081d371fa5c5cc055a8e Czech.txt
 297 924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3 Dutch.txt
3668 9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2 English.txt
 277 81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95 French.txt
 724 7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db German.txt
 203 3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6 Greek.txt
 232 cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058 Irish.txt
 709 f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4 Italian.txt
 991 e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f Japanese.txt
  94 cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136 Korean.txt
 139 45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826 Polish.txt
  74 50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53 Portuguese.txt
9408 43b3e64ce351f77f1ac9e0cdf7566012d127f4371875fd25208845b5c9d6f7c3 Russian.txt
 100 78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd Scottish.txt
 298 1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7 Spanish.txt
  73 f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d Vietnamese.txt
"""


@dataclass(frozen=True)
class Archive:
    """Names in a zip, one file for each language; they go into a directory."""

    name: str
    url: str
    folder: str
    """Where in the zip the files are, with a slash at the end."""
    files: Mapping[str, tuple[int, str]]
    """File name -> number of names, SHA-256."""

    @property
    def summary(self) -> str:
        total = sum(count for count, _ in self.files.values())
        return f"{total:,} names in {len(self.files)} languages"

    def check(self, directory: Path) -> None:
        """Raise InputError unless every file is in `directory`, byte for byte."""
        for name, expected in self.files.items():
            path = directory / name
            _check_names(str(path), read_limited(path, MAX_MEMBER), *expected)

    def install(self, content: bytes, directory: Path) -> None:
        """Put the files of the zip `content` in `directory`: all of them, or none."""
        _refuse_strangers(directory, self.files)
        members = _read_zip(content, self.folder, self.files)
        with _staging(directory) as staging:
            new = staging / "new"
            new.mkdir()
            for name, member in members.items():
                _write(new / name, member)
            _replace_directory(directory, new, staging / "old")


@dataclass(frozen=True)
class TextFile:
    """A text; it goes into a file."""

    name: str
    url: str
    size: int
    """In bytes."""
    sha256: str

    @property
    def summary(self) -> str:
        return f"{self.size:,} bytes"

    def check(self, path: Path) -> None:
        """Raise InputError unless the file `path` is this text, byte for byte."""
        _check_text(str(path), read_limited(path, MAX_DOWNLOAD), self)

    def install(self, content: bytes, path: Path) -> None:
        """Write `content`, if it is this text, to the file `path`: all, or nothing."""
        if path.is_dir():
            raise cli.InputError(f"{path} is a directory; expected a file or nothing")
        _check_text("the text", content, self)
        with _staging(path) as staging:
            _write(staging / path.name, content)
            os.replace(staging / path.name, path)


DATA_SETS: Mapping[str, Archive | TextFile] = {
    "names": Archive(
        name="names",
        url="https://download.pytorch.org/tutorial/data.zip",
        folder="data/names/",
        files={
            name: (int(count), sha256)
            for count, sha256, name in map(str.split, _NAME_FILES.splitlines())
        },
    ),
    "friends": TextFile(
        name="episode1_english.txt",
        url="https://raw.githubusercontent.com/telecombcn-dl/labs-all/master"
        "/labs/rnn/episode1_english.txt",
        size=23_466,
        sha256="8dbcab7abaed893fe662c106bb1baf1d6378bad95b15aebf4296247eb17918e9",
    ),
    "shakespeare": TextFile(
        name="tinyshakespeare.txt",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master"
        "/data/tinyshakespeare/input.txt",
        size=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}


class Unreachable(cli.InputError):
    """There is no network, or no answer from the other side."""


def fetch(
    data_set: Archive | TextFile,
    path: Path,
    url: str | None = None,
    file: Path | None = None,
    timeout: float = 30.0,
) -> str:
    """Leave a data set, known to be good, at `path`.

    What is good already stays as it is; what is bad is replaced, as a whole, once
    there is a good one.

    Args:
        data_set: What must be there.
        path: The directory or the file that it goes into.
        url: Address to download from, instead of the data set's own.
        file: A copy on this machine to take instead of a download.
        timeout: As in ``Config``.

    Returns:
        What was done, in one line.

    Raises:
        InputError: What came is not the data set, nothing came (``Unreachable``), or
            ``path`` holds something else, which replacing it would lose.
        OSError: ``path`` cannot be written.
    """
    path = path.resolve()
    if is_there(data_set, path):
        return f"verified: {path} ({data_set.summary})"
    if file is None:
        content = download(url or data_set.url, timeout)
    else:
        content = read_limited(file, MAX_DOWNLOAD)
    data_set.install(content, path)
    return f"fetched: {path} ({data_set.summary})"


def is_there(data_set: Archive | TextFile, path: Path) -> bool:
    """Tell whether `path` has the data set, byte for byte."""
    try:
        data_set.check(path)
    except cli.InputError:
        return False
    return True


def read_limited(path: Path, limit: int) -> bytes:
    """Read a file that may be endless, as a device or a pipe can be.

    Args:
        path: The file.
        limit: The most bytes that it may have.

    Raises:
        InputError: There is no such file, it is a directory, or it is longer.
        OSError: It cannot be read.
    """
    content = bytearray()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**20):
                content += chunk
                if len(content) > limit:
                    raise cli.InputError(
                        f"{path} is too large; expected at most {limit:,} bytes"
                    )
    except (FileNotFoundError, NotADirectoryError):
        raise cli.InputError(f"{path} does not exist; expected a file") from None
    except IsADirectoryError:
        raise cli.InputError(f"{path} is a directory; expected a file") from None
    return bytes(content)


def download(url: str, timeout: float, limit: int = MAX_DOWNLOAD) -> bytes:
    """Download into memory, with a progress bar where there is a terminal.

    Args:
        url: An http or https address.
        timeout: Seconds of silence after which to give up, and a tenth of the seconds
            that the whole may take.
        limit: The most bytes that there may be.

    Raises:
        InputError: The address is of another kind, or the answer is an error, cut
            short, or longer than ``limit``.
        Unreachable: There is no network, or no answer.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise cli.InputError(
            f"{url} is not an http or https address; give a local copy with --file"
        )
    # In a thread of its own because a look-up of the host's name obeys no time-out.
    arrivals: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(
        target=_receive, args=(url, timeout, limit, arrivals), daemon=True
    ).start()
    end = time.monotonic() + 10 * timeout

    def next_arrival() -> Any:
        try:
            arrival = arrivals.get(
                timeout=min(timeout, max(0.0, end - time.monotonic()))
            )
        except queue.Empty:
            arrival = TimeoutError()
        if isinstance(arrival, Exception):
            raise _refusal(url, arrival, timeout) from arrival
        return arrival

    size = next_arrival()
    content = bytearray()
    with tqdm(
        total=size, desc=url, unit="B", unit_scale=True, disable=None, leave=False
    ) as bar:
        while chunk := next_arrival():
            content += chunk
            bar.update(len(chunk))
            if max(len(content), size or 0) > limit:
                raise _unusable(f"{url} is larger than the {limit:,} bytes allowed")
    if size is not None and len(content) < size:
        raise _unusable(f"{url} ended after {len(content):,} of {size:,} bytes")
    return bytes(content)


def _receive(url: str, timeout: float, limit: int, arrivals: queue.SimpleQueue) -> None:
    """Put the size (None if not said), the chunks and b"" in the queue, or an error."""
    # Not build_opener: that would follow a redirection to ftp:, too.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "rnnjax"})
        with opener.open(request, timeout=timeout) as response:
            arrivals.put(response.length)
            while limit >= 0 and (chunk := response.read1(2**16)):
                limit -= len(chunk)
                arrivals.put(chunk)
        arrivals.put(b"")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        arrivals.put(error)


def _refusal(url: str, error: Exception, timeout: float) -> cli.InputError:
    if isinstance(error, urllib.error.HTTPError):
        return _unusable(f"{url} answered HTTP {error.code} {error.reason}")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return _unusable(f"{url} did not answer within {timeout:g} s", Unreachable)
    return _unusable(f"{url} could not be downloaded ({reason})", Unreachable)


def _unusable(
    what: str, error_type: type[cli.InputError] = cli.InputError
) -> cli.InputError:
    return error_type(
        f"{what}; give a local copy with --file or another address with --url"
    )


def _read_zip(
    content: bytes, folder: str, files: Mapping[str, tuple[int, str]]
) -> dict[str, bytes]:
    """Read the expected members, and nothing else, of a zip that nobody vouches for."""
    # zipfile makes an object of each entry, so entries are counted before it is asked.
    if content.count(b"PK\x01\x02") > MAX_MEMBERS:
        raise _unusable(f"the zip has more than {MAX_MEMBERS:,} members")
    members = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            for name, expected in files.items():
                path = folder + name
                members[name] = _read_member(bundle, path)
                _check_names(f"{path} in the zip", members[name], *expected)
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise _unusable(f"the zip is damaged, or is not a zip ({error})") from error
    return members


def _read_member(bundle: zipfile.ZipFile, path: str) -> bytes:
    entries = [entry for entry in bundle.infolist() if entry.filename == path]
    if len(entries) != 1:
        raise _unusable(f"the zip has {len(entries)} members {path}, expected 1")
    if entries[0].flag_bits & 1:
        raise _unusable(f"{path} in the zip is encrypted")
    if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _unusable(f"{path} in the zip is neither stored nor deflated")
    # The sizes in a zip are claims: only what comes out counts.
    with bundle.open(entries[0]) as member:
        content = member.read(MAX_MEMBER + 1)
    if len(content) > MAX_MEMBER:
        raise _unusable(f"{path} in the zip is larger than {MAX_MEMBER:,} bytes")
    return content


def _check_names(source: str, content: bytes, count: int, sha256: str) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unusable(f"{source} is not UTF-8 at byte {error.start}") from None
    found = sum(bool(line.strip()) for line in text.split("\n"))
    if found != count:
        raise _unusable(f"{source} has {found:,} names, expected {count:,}")
    _check_hash(source, content, sha256)


def _check_text(source: str, content: bytes, text: TextFile) -> None:
    if len(content) != text.size:
        raise _unusable(f"{source} has {len(content):,} bytes, expected {text.size:,}")
    _check_hash(source, content, text.sha256)


def _check_hash(source: str, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise _unusable(f"{source} has SHA-256 {found}, expected {sha256}")


def _refuse_strangers(directory: Path, files: Collection[str]) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise cli.InputError(f"{directory} is a file; expected a directory or nothing")
    strangers = sorted({path.name for path in directory.iterdir()} - {*files})
    if strangers:
        raise cli.InputError(
            f"{directory} is to be replaced but also holds {strangers[0]}; move that "
            "away, or choose another folder with --out"
        )


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Make a directory that can be renamed from to `target`: on the same disk.

    One process at a time: a directory is not replaced in one step.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        _locked(target.parent),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as staging,
    ):
        yield Path(staging)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Wait for other processes that write into a directory; leaves nothing behind."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        lock(handle, directory, wait=True)
        yield
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    # Else a power cut after the renaming could leave an empty file.
    sync(path)


def _replace_directory(directory: Path, new: Path, old: Path) -> None:
    if directory.exists():
        os.rename(directory, old)
    try:
        os.rename(new, directory)
    except BaseException:
        if old.exists():
            os.rename(old, directory)
        raise
