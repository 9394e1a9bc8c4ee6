"""One file over HTTP, whatever happens on the way: cut connections, wrong bytes, servers without ranges.

What has arrived is kept in NAME.part and continued with a range request. If-Range (RFC 9110, 13.1.5) makes
the server send the whole file instead where it has become another one. The file appears when its size and
SHA-256 are right, never before.
"""

import errno
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from kgtool import __version__
from kgtool.errors import KgtoolError
from kgtool.partial_file import PartialFile, Version

_CHUNK = 1 << 18
#: Left on the disk beyond what is fetched or extracted.
DISK_MARGIN = 64 << 20
#: A size that a server tells; longer ones are no size, and Python refuses to read them.
_SIZE = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(rf"bytes ({_SIZE.pattern})-{_SIZE.pattern}/({_SIZE.pattern}|\*)")
#: Answers that may be another one soon: timeout, too early, too many requests, and all of 500.
_PASSING = {408, 425, 429}

#: Told the name of a file, the bytes that have arrived, and how many there are (None: unknown).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        attempts: attempts at one URL in which nothing arrives before it is given up.
        pause_s: seconds before the second attempt; each further pause is twice as long.
        longest_s: the longest pause, whatever the server asks for.
        timeout_s: seconds without a byte before a connection is given up.
    """

    attempts: int = 5
    pause_s: float = 1.0
    longest_s: float = 60.0
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Received:
    """What was received: from where, bytes, and SHA-256 in hexadecimal."""

    url: str
    size: int
    sha256: str


class _Passing(Exception):
    """An attempt failed in a way that the next one may not."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class _Refused(Exception):
    """This URL does not have the file."""


PATIENT = Patience()


def download(
    urls: Sequence[str],
    path: Path,
    *,
    size: int | None = None,
    most: int | None = None,
    sha256: str = "",
    on_progress: Progress | None = None,
    patience: Patience = PATIENT,
) -> Received:
    """Fetch a file from the first URL that has it.

    Args:
        urls: http or https, best first; the next is taken when one does not have the file, has another one,
            or nothing arrives from it any more.
        path: where to; not there yet.
        size: bytes it must have; None: what the server says.
        most: where `size` is None, bytes that it has at most, whatever the server says; None: as many as the
            disk has room for.
        sha256: what it must have, in hexadecimal; "": anything.
        on_progress: told how far it is.
        patience: how long to try.

    Raises:
        KgtoolError: no URL gives the file, the disk has no room for it, or another process is fetching it.
    """
    reasons = []
    with closing(PartialFile(path)) as part:
        for url in urls:
            report = on_progress or (lambda *_: None)
            fetch = _Fetch(url, path.name, part, size, most, sha256, report, patience)
            try:
                fetch.run()
            except _Refused as error:
                reasons.append(f"{url}: {error}")
                continue
            received = Received(url, part.size, part.sha256())
            part.finish()
            return received
    raise KgtoolError(
        f"{path.name}: could not be fetched ({'; '.join(reasons)}); try again, which goes on where this "
        f"ended, or give another --mirror, or put the file at {path}"
    )


@dataclass
class _Fetch:
    """One file from one URL; `continued` tells whether what had arrived before was gone on with."""

    url: str
    name: str
    part: PartialFile
    size: int | None
    most: int | None
    sha256: str
    on_progress: Progress
    patience: Patience
    continued: bool = False

    def run(self) -> None:
        """Try until all is there and right; start again once where what was continued turns out wrong."""
        if not self.url.startswith(("http://", "https://")):
            raise _Refused("expected http:// or https://")
        self._receive_all()
        if self._wrong() and self.continued:
            self.part.restart(Version())
            self._receive_all()
        if wrong := self._wrong():
            self.part.restart(Version())
            raise _Refused(wrong)

    def _may_continue(self) -> bool:
        """Whether what is there can be a part of this URL's file."""
        if not self.part.size or (self.size is not None and self.part.size > self.size):
            return False
        same = self.part.version.url == self.url and self.part.version.validator
        return bool(same or self.sha256)

    def _wrong(self) -> str:
        """What is wrong with what has arrived; "" for nothing."""
        if self.size is not None and self.part.size != self.size:
            return f"found {self.part.size} bytes; expected {self.size}"
        if self._is_too_much():
            return f"found {self.part.size} bytes or more; expected at most {self.most}"
        if self.sha256 and self.part.sha256() != self.sha256:
            return f"found SHA-256 {self.part.sha256()}; expected {self.sha256}"
        return ""

    def _is_too_much(self) -> bool:
        """Whether more has arrived than there can be."""
        most = self.most if self.size is None else self.size
        return most is not None and self.part.size > most

    def _receive_all(self) -> None:
        failures, pause_s, most = 0, self.patience.pause_s, self.part.size
        while not (self.size is not None and self.part.size == self.size and self._may_continue()):
            try:
                self._receive()
                return
            except _Passing as error:
                failures += 1
                if self.part.size > most:
                    failures, pause_s, most = 0, self.patience.pause_s, self.part.size
                if failures >= self.patience.attempts:
                    raise _Refused(f"{error}, {failures} times") from None
                time.sleep(min(error.pause_s or pause_s, self.patience.longest_s))
                pause_s *= 2

    def _receive(self) -> None:
        """One request: all that is missing, or `_Passing`, or `_Refused`."""
        request = urllib.request.Request(self.url, headers=self._headers())
        try:
            with _opener().open(request, timeout=self.patience.timeout_s) as response:
                total = self._begin(response.status, response.headers)
                check_room(self.part.path.parent, (total or 0) - self.part.size, self.name)
                while data := response.read1(_CHUNK):  # what is there: if no more comes, nothing is lost
                    if total is None:  # such a server may go on until the disk is full
                        check_room(self.part.path.parent, len(data), self.name)
                    self.part.append(data)
                    self.on_progress(self.name, self.part.size, total)
                    if self._is_too_much():
                        return
        except urllib.error.HTTPError as error:
            self._take_refusal(error)
            return
        except (OSError, http.client.HTTPException) as error:  # also a name that cannot be resolved
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _Passing(str(reason) or type(error).__name__) from None
        if total is not None and self.part.size < total:
            raise _Passing(f"the connection ended at {self.part.size} of {total} bytes")

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"kgtool/{__version__}", "Accept-Encoding": "identity"}
        if self._may_continue():
            headers["Range"] = f"bytes={self.part.size}-"
            if self.part.version.url == self.url and self.part.version.validator:
                headers["If-Range"] = self.part.version.validator
        return headers

    def _begin(self, status: int, headers: Message) -> int | None:
        """Take an answer's headers: continue, or start again. The size of the whole file, if it is told."""
        length = headers.get("Content-Length", "")
        total = int(length) if _SIZE.fullmatch(length) else None
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if status == 206:
            if not found or int(found[1]) != self.part.size or self._is_other_version(headers):
                self.part.restart(Version())
                raise _Passing("the server sent a range of another file, or not the one asked for")
            total = None if found[2] == "*" else int(found[2])
        if self.size is not None and total is not None and total != self.size:
            raise _Refused(f"found {total} bytes; expected {self.size}")
        if self.size is None and self.most is not None and total is not None and total > self.most:
            raise _Refused(f"found {total} bytes; expected at most {self.most}")
        if status == 206:
            self.continued = True
        else:
            self.part.restart(Version(self.url, _validator(headers)))
        return total if self.size is None else self.size

    def _is_other_version(self, headers: Message) -> bool:
        """Whether a server that does not know If-Range sends a range of what the file is by now."""
        known = self.part.version
        return bool(known.url == self.url and known.validator and _validator(headers) != known.validator)

    def _take_refusal(self, error: urllib.error.HTTPError) -> None:
        """Take an answer that is no success."""
        with closing(error):
            if error.code == 416 and self.part.size:  # nothing more: this is all, or of another file
                if error.headers.get("Content-Range", "").strip() == f"bytes */{self.part.size}":
                    self.continued = True
                    return
                self.part.restart(Version())
                raise _Passing("the server has less than had arrived")
            reason = f"the server answered {error.code} {error.reason}".strip()
            if error.code in _PASSING or error.code >= 500:
                asked = error.headers.get("Retry-After", "")
                raise _Passing(reason, float(asked) if _SIZE.fullmatch(asked) else None)
            raise _Refused(reason)


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https, through proxies of the environment, and nothing else after a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _validator(headers: Message) -> str:
    """A strong ETag, or else the date of the last change: what If-Range takes."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def check_room(folder: Path, num_bytes: int, name: str) -> None:
    """Check that a folder's disk has room for so many bytes.

    Raises:
        KgtoolError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > 0 and num_bytes + DISK_MARGIN > free:
        raise KgtoolError(
            f"{name}: found {free} bytes free in {folder}; expected {num_bytes + DISK_MARGIN}; make room, or "
            "give another --out"
        )
