"""Where files come from: this machine, a web server, an object store; and whether they are still what they were.

Files of elsewhere are fetched into the directory for temporary files when their table's turn comes, each with retries,
and are then read like others.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import Request, urlopen

import pyarrow.fs

from skyshard.errors import UserError

TIMEOUT_S = 60.0
"""Seconds that a server may take to go on."""
ATTEMPTS = 4
"""Times that a file is asked for."""
PAUSE_S = 1.0
"""Seconds before the second time; each next pause is twice as long."""
_PIECE = 1 << 20
_NO_URL = "it is no URL that can be asked for"
_NOT_THERE = (403, 404, 410)
"""What web servers answer that have no such file: object stores forbid it to those who may not list."""
_PARTIAL = 206
_REMOTE = ("http://", "https://", "s3://")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one version of a file from others: its size in bytes and a checksum.

    The checksum is SHA-256: of the contents of a file of this machine, of what a server says of its version otherwise.
    """

    size: int
    checksum: str


class NotThere(UserError):  # noqa: N818 - no mistake of the program
    """There is no such file, or it is shown to nobody."""


def is_remote(text: str) -> bool:
    """Whether an entry of `files` is a URL of a file elsewhere."""
    return text.startswith(_REMOTE)


def local(text: str) -> str:
    """Return the path of a ``file:`` URL; other texts as they are."""
    if not text.startswith("file:"):
        return text
    parts = _split(text)
    if parts.netloc not in ("", "localhost"):
        raise UserError(f"{text}: a file: URL names no host")
    return unquote(parts.path)


def shown(name: str) -> str:
    """Return a path or URL for people: without the options of a URL, which may be signed ones."""
    return name.partition("?")[0] if is_remote(name) else name


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UserError(f"{shown(url)}: {_NO_URL}") from error


def name_of(url: str) -> str:
    """Return the name of the file that a URL names, without the folders that it is in.

    Raises
    ------
    UserError
        If it is none.
    """
    return unquote(_split(url).path).rpartition("/")[2]


def check_no_secret(name: str) -> None:
    """Refuse a URL with a password or key in it: it would be kept, and others could see it.

    Raises
    ------
    UserError
        Saying where to put it, or that it is no URL.
    """
    if not is_remote(name):
        return
    parts = _split(name)
    if "@" in parts.netloc:
        place = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the usual AWS files"
        raise UserError(
            f"{parts.scheme}://…@{parts.hostname}{parts.path}: a URL must have no account and no password; "
            + (f"put them into {place}" if parts.scheme == "s3" else "fetch the file, and name its path")
        )


def stamp(name: str) -> Stamp:
    """Return what a file is at this moment.

    Raises
    ------
    UserError
        If it cannot be read, or its URL has a secret.
    """
    check_no_secret(name)
    if name.startswith("s3://"):
        return _patiently(name, lambda: _s3_stamp(name))
    if is_remote(name):
        return _patiently(name, lambda: _http_stamp(name))
    try:
        with Path(name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Stamp(file.tell(), digest)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error


def fetch(name: str, expected: Stamp | None, into: Path) -> None:
    """Copy a file of elsewhere into a file of this machine.

    Raises
    ------
    UserError
        If it cannot be read, or is not the version that `expected` says.
    """
    found = _patiently(
        name, lambda: _s3_fetch(name, into) if name.startswith("s3://") else _http_fetch(name, into)
    )
    if expected is None or found == expected:
        return
    if found.size != expected.size:
        raise UserError(
            f"{shown(name)}: the file has changed: it had {expected.size} bytes, and has {found.size}"
        )
    raise UserError(f"{shown(name)}: the file has changed: it is another version of the same size")


def tail(name: str, size: int) -> bytes:
    """Return the last bytes of a file of elsewhere; all of a shorter one.

    Raises
    ------
    UserError
        If it cannot be read, or its server gives no parts of files.
    """
    return _patiently(name, lambda: (_s3_tail if name.startswith("s3://") else _http_tail)(name, size))


def _patiently(name: str, action: Callable[[], _T]) -> _T:
    """Do something that may fail for a moment, a few times."""
    kind: type[UserError] = UserError
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except HTTPError as error:
            reason, final = f"{error.code} {error.reason}", error.code < 500 and error.code != 429
            kind = NotThere if error.code in _NOT_THERE else UserError
            error.close()
        except URLError as error:
            reason, final = str(error.reason), False
        except FileNotFoundError:
            reason, final, kind = "there is no such file", True, NotThere
        except OSError as error:
            reason, final = error.strerror or str(error), False
        except (InvalidURL, ValueError):  # what they say may show the options of the URL
            reason, final = _NO_URL, True
        except HTTPException as error:
            reason, final = f"the server answers as no web server does ({type(error).__name__})", False
        if final or attempt == ATTEMPTS - 1:
            break
        time.sleep(PAUSE_S * 2**attempt)
    raise kind(f"{shown(name)}: {reason}")


def _http_stamp(name: str) -> Stamp:
    with urlopen(Request(name, method="HEAD"), timeout=TIMEOUT_S) as answer:  # noqa: S310 - http(s) only
        return _http_version(name, answer.headers)


def _http_version(name: str, headers: Message) -> Stamp:
    """Return what a server says of a file."""
    size, version = headers.get("Content-Length"), headers.get("ETag") or headers.get("Last-Modified")
    if size is None:
        raise UserError(f"{shown(name)}: the server does not say how long the file is")
    if version is None:
        raise UserError(
            f"{shown(name)}: the server says neither ETag nor Last-Modified, so nobody would see that the file has "
            "changed; fetch it, and name its path"
        )
    return Stamp(int(size), hashlib.sha256(version.encode()).hexdigest())


def _http_fetch(name: str, into: Path) -> Stamp:
    with urlopen(name, timeout=TIMEOUT_S) as answer, into.open("wb") as file:  # noqa: S310 - http(s) only
        shutil.copyfileobj(answer, file, _PIECE)
        found = _http_version(name, answer.headers)
    if into.stat().st_size != found.size:
        raise ConnectionError("the connection ended before the file did")
    return found


def _http_tail(name: str, size: int) -> bytes:
    asked = Request(name, headers={"Range": f"bytes=-{size}"})  # noqa: S310 - http(s) only
    with urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http(s) only
        if answer.status != _PARTIAL:
            raise UserError(
                f"{shown(name)}: the server gives no parts of files, so the rows of a HATS catalogue without "
                "dataset/_metadata cannot be counted"
            )
        return bytes(answer.read(size))


def _s3(name: str) -> tuple[pyarrow.fs.FileSystem, str]:
    try:
        found = pyarrow.fs.FileSystem.from_uri(name)
    except (ValueError, OSError) as error:
        raise UserError(f"{shown(name)}: {error}") from error
    return found[0], found[1]


def _s3_stamp(name: str) -> Stamp:
    system, path = _s3(name)
    found = system.get_file_info(path)
    if found.type is not pyarrow.fs.FileType.File:
        raise FileNotFoundError(path)
    return Stamp(found.size, hashlib.sha256(str(found.mtime_ns).encode()).hexdigest())


def _s3_fetch(name: str, into: Path) -> Stamp:
    system, path = _s3(name)
    with system.open_input_stream(path) as stream, into.open("wb") as file:
        _copy(stream, file)
    return _s3_stamp(name)


def _s3_tail(name: str, size: int) -> bytes:
    system, path = _s3(name)
    with system.open_input_file(path) as file:
        file.seek(max(0, file.size() - size))
        return bytes(file.read(size))


def _copy(stream: pyarrow.NativeFile, file: BinaryIO) -> None:
    while piece := stream.read(_PIECE):
        file.write(piece)
