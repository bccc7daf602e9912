"""SECURITY.md, row by row, against a real server and a real gate."""

from __future__ import annotations

import ast
import datetime
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
import trustme
from reliability.fuzz.seeds import request, volume_tensors
from reliability.gate_process import GateProcess
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from spine_server import EmbeddedTriton, ServerOptions, launch
from spine_server.control import socket_address
from spine_server.leftovers import SHARED_MEMORY, RunToken

from .conftest import ENTRIES, Authority

ROOT = Path(__file__).parents[2]
METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
_REFUSED_KEY = grpc.StatusCode.UNAUTHENTICATED


def table(heading: str) -> dict[str, list[str]]:
    """The rows of a table of SECURITY.md: first cell -> the other cells."""
    section = (ROOT / "SECURITY.md").read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows[2:]}


def outcome(call: Callable[[], object]) -> str:
    """How a call ends, in the words of SECURITY.md."""
    try:
        call()
    except grpc.RpcError as error:
        if "This protocol is restricted" in (error.details() or ""):
            return "restricted"
        known = {grpc.StatusCode.PERMISSION_DENIED: "closed", _REFUSED_KEY: "no key"}
        return known.get(error.code(), "open")  # refused for what it says, not for who calls
    return "open"


def call_method(channel: grpc.Channel, name: str, metadata: object = ()) -> Callable[[], object]:
    """A call of a method, its model being an entry model where it has one."""
    message = getattr(pb, METHODS[name].input_type.name)()
    for field in ("name", "model_name"):
        if field in METHODS[name].input_type.fields_by_name and name.startswith("Model"):
            setattr(message, field, "spine_mri")
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    if name == "ModelStreamInfer":
        return lambda: list(stub.ModelStreamInfer(iter([message]), timeout=20, metadata=metadata))
    return lambda: getattr(stub, name)(message, timeout=20, metadata=metadata)


def test_every_method_of_triton_has_its_row() -> None:
    assert table("Methods").keys() == METHODS.keys()


@pytest.mark.parametrize("method", METHODS)
def test_method(server: EmbeddedTriton, plain: GateProcess, method: str) -> None:
    own, gated = table("Methods")[method]
    with grpc.insecure_channel(server.grpc_url) as channel:
        assert outcome(call_method(channel, method)) == own
    with grpc.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
        without = outcome(call_method(channel, method))
        with_key = outcome(call_method(channel, method, plain.metadata()))
    assert (without, with_key) == {
        "open": ("open",) * 2,
        "key": ("no key", "open"),
        "closed": ("closed",) * 2,
    }[gated]


def test_every_model_of_the_repository_has_its_row() -> None:
    models = {path.parent.name for path in (ROOT / "model_repository").glob("*/config.pbtxt")}
    assert table("Models, with a valid key").keys() == models


@pytest.mark.parametrize("model", table("Models, with a valid key"))
def test_model(plain: GateProcess, model: str) -> None:
    cell = table("Models, with a valid key")[model][1]
    assert cell.startswith("open") == (model in ENTRIES)
    with grpc.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call in (
            lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name=model), metadata=plain.metadata()),
            lambda: stub.ModelInfer(request(model, {}), timeout=20, metadata=plain.metadata()),
        ):
            assert outcome(call) == cell.partition(",")[0]


def connect(gate: GateProcess, credentials: grpc.ChannelCredentials | None, key: str | None) -> str:
    """How a good inference ends for a caller."""
    target, good = f"localhost:{gate.port}", request("spine_mri", volume_tensors())
    metadata = gate.metadata(key) if key else ()
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
                good, timeout=120, metadata=metadata
            )
        except grpc.RpcError as error:
            return "no connection" if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name
    return "answered"


def credentials(authority: Authority, pair: tuple[bytes, bytes] | None) -> grpc.ChannelCredentials:
    """TLS that trusts the gate's authority, with a client's key and chain or without."""
    return grpc.ssl_channel_credentials(authority.ca.cert_pem.bytes(), *(pair or (None, None)))


@pytest.fixture(scope="session")
def callers(authority: Authority, mutual: GateProcess) -> dict[str, Callable[[], str]]:
    """What each row of the table of callers does; the rotation goes step by step, in its order."""
    good = credentials(authority, authority.issue("caller.example"))
    stranger = credentials(authority, Authority(trustme.CA(), authority.folder).issue("caller.example"))
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    old = authority.issue("caller.example", not_after=past)
    first, second = mutual.key, "a-second-key-0123456789"

    def rotating(key: str) -> str:
        (mutual.keys / "next").write_text(second)
        time.sleep(2.2)  # the gate looks at its folder again every two seconds
        return connect(mutual, good, key)

    def removed() -> str:
        (mutual.keys / "next").write_text(second)
        (mutual.keys / "current").unlink()
        time.sleep(2.2)
        return connect(mutual, good, first)

    return {
        "no TLS": lambda: connect(mutual, None, first),
        "TLS, no client certificate": lambda: connect(mutual, credentials(authority, None), first),
        "client certificate of another authority": lambda: connect(mutual, stranger, first),
        "client certificate that has expired": lambda: connect(mutual, credentials(authority, old), first),
        "client certificate, no key": lambda: connect(mutual, good, None),
        "client certificate, wrong key": lambda: connect(mutual, good, "a-wrong-key-0123456789"),
        "client certificate, the beginning of a key": lambda: connect(mutual, good, first[:16]),
        "client certificate, key": lambda: connect(mutual, good, first),
        "client certificate, second key during a rotation": lambda: rotating(second),
        "client certificate, first key during a rotation": lambda: rotating(first),
        "client certificate, key that was removed": removed,
    }


@pytest.mark.parametrize("caller", table("Who may connect to the gate"))
def test_caller(callers: dict[str, Callable[[], str]], caller: str) -> None:
    assert callers[caller]() == table("Who may connect to the gate")[caller][0]


def listening(pid: int) -> set[tuple[str, int]]:
    """Address and port of everything that a process listens on."""
    sockets = psutil.Process(pid).net_connections(kind="inet")
    return {
        (each.laddr.ip.removeprefix("::ffff:"), each.laddr.port)
        for each in sockets
        if each.status == psutil.CONN_LISTEN
    }


def test_grpc_is_on_loopback_and_metrics_only_where_asked_for(server: EmbeddedTriton) -> None:
    """The session's server was started with metrics, which are off by default, and without HTTP."""
    assert server.pid is not None and server.metrics_url is not None and server.http_url is None
    assert {ip for ip, _ in listening(server.pid)} == {"127.0.0.1"}
    assert len({port for _, port in listening(server.pid)}) == 2
    assert ServerOptions().metrics_port is None and ServerOptions().host == "127.0.0.1"


def arguments(options: ServerOptions) -> list[str]:
    words = {"executable": Path("t"), "repository": Path("r"), "backends": Path("b"), "run_name": "n"}
    return launch.command_line(options, **words)


def test_http_is_off_and_never_leaves_loopback() -> None:
    assert "--allow-http=false" in arguments(ServerOptions(host="0.0.0.0"))
    told = arguments(ServerOptions(host="0.0.0.0", http_port=8000))
    assert "--http-address=127.0.0.1" in told and "--grpc-address=0.0.0.0" in told
    assert any(word.startswith("--http-restricted-api=") for word in told)


def test_the_supervisors_model_control_is_a_socket_that_no_other_user_reaches(tmp_path: Path) -> None:
    address = socket_address(tmp_path)
    words = {"executable": Path("t"), "repository": Path("r"), "backends": Path("b"), "run_name": "n"}
    told = launch.command_line(ServerOptions(), **words, control=address)
    assert f"--http-address={address}" in told and address.startswith("unix:/")
    token = RunToken()
    try:
        assert stat.S_IMODE(token.run_folder.stat().st_mode) == 0o700
    finally:
        token.release()


def test_shared_memory_is_opened_only_on_request() -> None:
    closed = next(
        word for word in arguments(ServerOptions()) if word.startswith("--grpc-restricted-protocol=")
    )
    assert "shared-memory" in closed
    assert not ServerOptions().open_shared_memory


def test_the_status_port_tells_nothing_of_a_study(plain: GateProcess) -> None:
    for path, status in {"/live": 200, "/ready": 200, "/metrics": 200, "/v2/models": 404}.items():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{plain.status_port}{path}", timeout=10) as answer:
                assert answer.status == status
                assert b"request_id" not in answer.read()
        except urllib.error.HTTPError as error:
            assert error.code == status


def test_shared_memory_is_for_the_servers_user_alone(server: EmbeddedTriton) -> None:
    assert server.pid is not None
    command = Path(f"/proc/{server.pid}/cmdline").read_text()
    name = command.partition("shm-region-prefix-name=")[2].partition("\0")[0]
    regions = list(SHARED_MEMORY.glob(f"{name}*"))
    assert regions and all(stat.S_IMODE(region.stat().st_mode) == 0o600 for region in regions)


def test_no_key_is_in_the_process_list_or_environment(plain: GateProcess) -> None:
    place = Path(f"/proc/{plain.process.pid}")
    assert plain.key.encode() not in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()


UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
SERVING = ("core/src", "server/src", "model_repository")


def test_nothing_that_serves_loads_a_pickle() -> None:
    sources = [path for folder in SERVING for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 40
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & UNSAFE, path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path
    files = [path for path in (ROOT / "model_repository").rglob("*") if path.is_file()]
    served = {path.suffix for path in files if not path.name.startswith(".")}
    assert served <= {".py", ".pbtxt", ".json", ".onnx", ".md", ".pyc", ".xml", ".bin"}


def test_no_stage_has_torch_in_it(server: EmbeddedTriton) -> None:
    """What is loaded, by the kernel's word."""
    children = psutil.Process(server.pid).children(recursive=True)
    assert len(children) >= 7
    for child in children:
        maps = Path(f"/proc/{child.pid}/maps").read_text()
        assert "libtorch" not in maps and os.path.sep + "torch" + os.path.sep not in maps
