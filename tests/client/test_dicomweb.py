"""DICOMweb against a server that misbehaves on purpose; the real PACS is in `tests/pacs`."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from dicom_writer import SLICES, expected_voxels, make_slice
from pydicom.uid import generate_uid

from spine_client import Pacs, RemoteSeries, Tls
from spine_client.cli import main
from spine_client.dicomweb import is_address, parse_address, remote_series
from spine_client.errors import (
    AccessRefused,
    DeadlineExceeded,
    InputError,
    MissingExtra,
    ProtocolError,
    ServerFailed,
    ServerUnavailable,
    SpineClientError,
)
from spine_client.sources import load

pytest.importorskip("dicomweb_client", reason="the extra «dicomweb» is not installed")

STUDY, SERIES = "1.2.777555333", "1.2.777555333.9"
SECRET = "SENTINEL-SECRET"
NOBODY = "http://127.0.0.1:9/dicom-web"
_BOUNDARY = "frontier"


def multipart(count: int = SLICES) -> bytes:
    """The series as a PACS sends it."""
    body = b""
    for index in range(count):
        stream = io.BytesIO()
        make_slice(index, series_uid=SERIES).save_as(stream)
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body += head + stream.getvalue() + b"\r\n"
    return body + f"--{_BOUNDARY}--\r\n".encode()


def listing(images: int | None = SLICES) -> bytes:
    """The series as a PACS lists it."""
    item: dict[str, Any] = {
        "0020000E": {"vr": "UI", "Value": [SERIES]},
        "00080060": {"vr": "CS", "Value": ["MR"]},
    }
    if images is not None:
        item["00201209"] = {"vr": "IS", "Value": [images]}
    return json.dumps([item]).encode()


@dataclass
class Answer:
    """What the server says to one request."""

    status: int = 200
    body: bytes = b""
    kind: str = "application/dicom+json"
    length: int | None = None
    """Content-Length to claim, when it is not the truth."""
    wait_s: float = 0.0
    """Before it says anything."""
    halt_s: float = 0.0
    """Amidst the body."""


def images(**changes: Any) -> Answer:
    return Answer(**{"body": multipart(), "kind": f"multipart/related; boundary={_BOUNDARY}"} | changes)


@dataclass
class FakePacs:
    """Answers by path: retrieve, search, store. Keeps what it was asked."""

    retrieve: list[Answer] = field(default_factory=lambda: [images()])
    search: list[Answer] = field(default_factory=lambda: [Answer(body=listing())])
    stored: list[Answer] = field(default_factory=lambda: [Answer(body=b"{}")])
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str) -> Answer:
        queue = self.stored if method == "POST" else self.search if "?" in path else self.retrieve
        return queue.pop(0) if len(queue) > 1 else queue[0]


def handler_of(pacs: FakePacs) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer()

        def _answer(self) -> None:
            pacs.seen.append((self.command, self.path, self.headers.get("Authorization")))
            answer = pacs.answer(self.command, self.path)
            pacs.stop.wait(answer.wait_s)
            if pacs.stop.is_set():
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(answer.length or len(answer.body)))
            self.end_headers()
            half = len(answer.body) // 2
            self.wfile.write(answer.body[:half])
            pacs.stop.wait(answer.halt_s)
            with contextlib.suppress(OSError):  # whoever asked may have left
                self.wfile.write(answer.body[half:])

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def pacs() -> Iterator[FakePacs]:
    """A DICOMweb server in this process, on a free port."""
    fake = FakePacs()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(fake))
    fake.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield fake
    fake.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def nothing_is_told(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """In no test does a log record or a warning hold a UID, a path or a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    told = caplog.text + " ".join(str(item.message) for item in recwarn)
    for sentinel in (STUDY, SECRET, "dicom-web"):
        assert sentinel not in told


def failure(expected: type[SpineClientError], act: Callable[[], object]) -> SpineClientError:
    """The error, which names neither UID nor address nor secret, tracebacks included."""
    with pytest.raises(SpineClientError) as caught:
        act()
    assert type(caught.value) is expected, caught.value
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for sentinel in (STUDY, SECRET, "127.0.0.1"):
        assert sentinel not in text
    return caught.value


def read(pacs: FakePacs, **settings: Any) -> Any:
    return load(Pacs(pacs.url, **settings).series(STUDY, SERIES))


def test_series_is_read_into_a_volume(pacs: FakePacs) -> None:
    volume = read(pacs)
    np.testing.assert_array_equal(volume.voxels, expected_voxels())
    assert [(method, path.split("?")[0]) for method, path, _ in pacs.seen] == [
        ("GET", f"/dicom-web/studies/{STUDY}/series/{SERIES}"),
        ("GET", f"/dicom-web/studies/{STUDY}/series"),
    ]


def test_address_is_a_source(pacs: FakePacs) -> None:
    address = f"dicomweb+{pacs.url}/studies/{STUDY}/series/{SERIES}"
    np.testing.assert_array_equal(load(address).voxels, expected_voxels())


def test_study_without_a_series_takes_its_mr_series_and_the_usual_rule(pacs: FakePacs) -> None:
    assert load(f"{pacs.url}/studies/{STUDY}").shape_zyx[0] == SLICES
    assert "Modality=MR" in pacs.seen[0][1]


def test_named_series_of_a_study_is_the_only_one_fetched(pacs: FakePacs) -> None:
    assert load(f"{pacs.url}/studies/{STUDY}", series=SERIES).shape_zyx[0] == SLICES
    assert pacs.seen[0][1] == f"/dicom-web/studies/{STUDY}/series/{SERIES}"


@pytest.mark.parametrize(
    ("text", "root", "study", "series"),
    [
        ("dicomweb://h/dicom-web/studies/1.2/series/3.4", "https://h/dicom-web", "1.2", "3.4"),
        ("dicomweb+http://h:8042/dicom-web/studies/1.2", "http://h:8042/dicom-web", "1.2", None),
        ("https://h/a/b/rs/studies/1.2/series/3.4/", "https://h/a/b/rs", "1.2", "3.4"),
        ("http://[::1]:80/studies/1.2", "http://[::1]:80", "1.2", None),
        ("DICOMWEB://h/dicom-web", "https://h/dicom-web", None, None),
    ],
)
def test_addresses(text: str, root: str, study: str | None, series: str | None) -> None:
    parsed = parse_address(text)
    assert (parsed.root, parsed.study_uid, parsed.series_uid) == (root, study, series)
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        f"dicomweb://user:{SECRET}@h/dicom-web/studies/{STUDY}",
        f"dicomweb://h/dicom-web/studies/{STUDY}/series/x",
        f"dicomweb://h/dicom-web/studies/{STUDY}/series/1.2/instances/3",
        f"dicomweb://h/dicom-web/studies/{STUDY}?token={SECRET}",
        "dicomweb://h/dicom-web/studies",
        "dicomweb://h/dicom-web",
        "dicomweb:///dicom-web",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    error = failure(InputError, lambda: load(text))
    assert isinstance(error, InputError) and error.code == "address"


@pytest.mark.parametrize("uid", ["", "1.2/../3", "1.2?x", "Doe", "1" * 65])
def test_uids_that_are_none(pacs: FakePacs, uid: str) -> None:
    failure(InputError, lambda: load(Pacs(pacs.url).series(uid, SERIES)))
    failure(InputError, lambda: load(Pacs(pacs.url).series(STUDY, uid)))
    failure(InputError, lambda: load(Pacs(pacs.url).series(uid)))
    assert pacs.seen == []


def test_uid_of_a_careless_maker_is_asked_for_as_it_is(pacs: FakePacs) -> None:
    assert load(Pacs(pacs.url).series("1.02.003", SERIES)).shape_zyx[0] == SLICES


def test_paths_are_no_addresses() -> None:
    assert not is_address("dicom/study") and not is_address("C://study") and not is_address(b"http://h")


def test_reprs_hold_neither_uids_nor_secrets(pacs: FakePacs) -> None:
    source = RemoteSeries(Pacs(pacs.url, bearer_token=SECRET, allow_plaintext=True), STUDY, SERIES)
    entry = Pacs(pacs.url).find_series(StudyInstanceUID=STUDY)[0]
    assert (entry.series_uid, entry.study_uid, entry.images) == (SERIES, STUDY, SLICES)
    for text in (repr(source), repr(entry), repr(parse_address(f"http://h/studies/{STUDY}"))):
        assert STUDY not in text and SECRET not in text


@pytest.mark.parametrize("prefix", ["bearer_token", "authorization"])
def test_secret_is_asked_anew_for_every_request(pacs: FakePacs, prefix: str) -> None:
    given = iter([f"{SECRET}1\n", f"{SECRET}2"])
    read(pacs, **{prefix: lambda: next(given)}, allow_plaintext=True)
    start = "Bearer " if prefix == "bearer_token" else ""
    assert [secret for _, _, secret in pacs.seen] == [f"{start}{SECRET}1", f"{start}{SECRET}2"]


def test_secret_is_refused_over_plaintext(pacs: FakePacs) -> None:
    failure(InputError, lambda: read(pacs, bearer_token=SECRET))
    assert pacs.seen == []


def test_callable_that_fails(pacs: FakePacs) -> None:
    def token() -> str:
        raise LookupError("no token today")

    failure(AccessRefused, lambda: read(pacs, bearer_token=token, allow_plaintext=True))


def test_two_secrets_or_a_series_as_the_root() -> None:
    failure(InputError, lambda: Pacs("https://h", bearer_token="a", authorization="b"))
    failure(InputError, lambda: Pacs("https://h", tls=Tls(server_name="other")))
    failure(InputError, lambda: Pacs(f"https://h/studies/{STUDY}"))
    failure(InputError, lambda: remote_series("https://h/dicom-web"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProtocolError), (401, AccessRefused), (403, AccessRefused), (404, InputError),
        (406, ProtocolError), (409, ServerFailed), (413, ServerFailed), (500, ServerFailed),
        (501, ServerFailed), (503, ServerUnavailable), (429, ServerUnavailable),
    ],
)  # fmt: skip
def test_every_refusal_has_its_error(pacs: FakePacs, status: int, kind: type[SpineClientError]) -> None:
    pacs.retrieve = [Answer(status, STUDY.encode(), "text/plain")]
    failure(kind, lambda: read(pacs))


def test_busy_pacs_is_asked_again(pacs: FakePacs) -> None:
    pacs.retrieve = [Answer(503), Answer(502), images()]
    assert read(pacs).shape_zyx[0] == SLICES
    assert len(pacs.seen) == 4


def test_storing_is_never_repeated(pacs: FakePacs) -> None:
    pacs.stored = [Answer(503), Answer(body=b"{}")]
    failure(ServerUnavailable, lambda: Pacs(pacs.url).store([make_slice(0)]))
    assert len(pacs.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>log in</html>", kind="text/html"),
        Answer(body=b"{}", kind="application/dicom+json"),
        images(body=f"--{_BOUNDARY}\r\n\r\nnot DICOM\r\n--{_BOUNDARY}--\r\n".encode()),
        images(body=b"no parts at all"),
        Answer(204, b"", ""),
        images(kind="multipart/related; boundary="),
    ],
)
def test_answers_that_are_not_dicomweb(pacs: FakePacs, answer: Answer) -> None:
    pacs.retrieve = [answer]
    failure(ProtocolError, lambda: read(pacs))


def test_series_without_images(pacs: FakePacs) -> None:
    pacs.retrieve = [images(body=b"")]
    error = failure(InputError, lambda: read(pacs))
    assert isinstance(error, InputError) and error.code == "no_such_series"


def test_transfer_that_breaks_off(pacs: FakePacs) -> None:
    body = multipart()
    pacs.retrieve = [images(body=body[: len(body) // 2], length=len(body))]
    failure(ServerUnavailable, lambda: read(pacs))


def test_fewer_images_than_the_pacs_lists(pacs: FakePacs) -> None:
    """The last slice is missing, so no gap shows."""
    pacs.retrieve = [images(body=multipart(SLICES - 1))]
    error = failure(ServerUnavailable, lambda: read(pacs))
    assert "5 of 6" in str(error)


@pytest.mark.parametrize("search", [Answer(403), Answer(404), Answer(400), Answer(body=listing(None))])
def test_pacs_that_does_not_say_how_many_images_there_are(pacs: FakePacs, search: Answer) -> None:
    pacs.search = [search]
    assert read(pacs).shape_zyx[0] == SLICES


def test_slow_pacs_and_the_deadline(pacs: FakePacs) -> None:
    pacs.retrieve = [images(wait_s=30), images(halt_s=30)]
    failure(DeadlineExceeded, lambda: read(pacs, timeout_s=0.3))
    failure(DeadlineExceeded, lambda: load(Pacs(pacs.url).series(STUDY, SERIES), timeout_s=0.3))
    failure(DeadlineExceeded, lambda: load(Pacs(pacs.url).series(STUDY, SERIES), timeout_s=-1.0))


def test_deadline_of_an_analysis_holds_for_the_pacs_too(pacs: FakePacs, serve) -> None:
    pacs.retrieve = [images(wait_s=30)]
    servicer, client = serve()
    source = Pacs(pacs.url).series(STUDY, SERIES)
    failure(DeadlineExceeded, lambda: client.analyze(source, timeout_s=0.5))
    assert servicer.wire == []


def test_nobody_there() -> None:
    failure(ServerUnavailable, lambda: load(f"{NOBODY}/studies/{STUDY}"))


def test_partly_stored_is_an_error(pacs: FakePacs) -> None:
    one, two = make_slice(0), make_slice(1)
    refused = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
    pacs.stored = [Answer(body=json.dumps(refused).encode())]
    assert "1 of 2 objects (failure reason A700)" in str(
        failure(ServerFailed, lambda: Pacs(pacs.url).store([one, two]))
    )
    kept = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [one.SOPInstanceUID]}}]}}
    pacs.stored = [Answer(body=json.dumps(kept).encode())]
    failure(ServerFailed, lambda: Pacs(pacs.url).store([one, two]))
    Pacs(pacs.url).store([one])


def test_damaged_image_in_the_answer_is_skipped_and_leaves_a_hole(pacs: FakePacs) -> None:
    """Its header is whole and its pixels are short."""
    whole = multipart()
    third = whole.index(f"--{_BOUNDARY}".encode(), len(whole) // 2)
    pacs.retrieve = [images(body=whole[: third - 60] + b"\r\n" + whole[third:])]
    error = failure(InputError, lambda: read(pacs))
    assert isinstance(error, InputError) and error.code == "missing_slices"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--store"], 3),
        (["--pacs-auth-env", "SPINE_TEST_UNSET"], 3),
        (["--pacs-auth-env", "SPINE_TEST_SECRET"], 3),
        (["--pacs-ca", "/no/such/file"], 3),
    ],
)
def test_command_line_refuses_before_anything_is_asked(
    pacs: FakePacs, tmp_path, monkeypatch, capsys, arguments: list[str], code: int
) -> None:
    monkeypatch.setenv("SPINE_TEST_SECRET", SECRET)
    source = str(tmp_path) if arguments == ["--store"] else f"{pacs.url}/studies/{STUDY}"
    assert main(["analyze", source, *arguments]) == code
    output = capsys.readouterr()
    assert SECRET not in output.err and STUDY not in output.err and output.err.startswith("spine: ")
    assert pacs.seen == []


def test_inspect_lists_what_the_pacs_holds(pacs: FakePacs, capsys) -> None:
    assert main(["inspect", f"{pacs.url}/studies/{STUDY}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chosen"] == SERIES


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    error = failure(MissingExtra, lambda: load(f"{NOBODY}/studies/1.2"))
    assert isinstance(error, MissingExtra) and error.extra == "dicomweb"


def test_two_threads_restore_warnings_and_loggers(pacs: FakePacs) -> None:
    import warnings

    before = list(warnings.filters)
    threads = [threading.Thread(target=read, args=(pacs,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert logging.getLogger("urllib3.connectionpool").filters == []
    assert generate_uid() != STUDY
