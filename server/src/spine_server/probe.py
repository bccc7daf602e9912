"""``python -m spine_server.probe startup|ready|live``: is Triton, with every stage, able to work?

Triton calls itself ready while a stage's process is dead and answers nothing but errors, so the probes ask
the stages themselves:

startup
    a small volume goes through the entry model `spine_mri` and comes back as a report; a repository without
    it is knocked at
ready, live
    every model is knocked at: unless it has answered requests since the last look and failed none, each of
    its instances gets the smallest request that fits its inputs. A healthy stage refuses it at once in its
    own words, a network computes it; a dead one answers with Triton's INTERNAL error. No answer within the
    timeout, or a full queue, means busy and passes, until nothing has come from that model for
    ``--hung-after`` seconds.

Which models there are, Triton says only to who has its admin key, in a pod the variable ``POD_UID``; without
it the stages of SpineServe's own repository are asked.

Exit codes: 0 able, 1 not (the reason is printed), 2 wrong options.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from spine_server.errors import CanaryError

ENTRY_MODEL = "spine_mri"
STAGES = ("preprocess", "segment", "nnunet", "identify", "measure_cnn", "report")
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "UINT8", "INT8"), 1),
    **dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("UINT32", "INT32", "FP32", "BYTES"), 4),  # BYTES: one empty string
    **dict.fromkeys(("UINT64", "INT64", "FP64"), 8),
}
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_ADMIN_HEADER = "triton-grpc-protocol-admin-key"
_OWN_WORDS = "[spineserve:"
"""With these a stage of ours begins an error: it is alive, whatever it says."""


@dataclass
class Record:
    """What is known of a model between two probes."""

    answered: int = -1
    """Requests it had answered at the last look; -1 before the first."""
    failed: int = 0
    """Requests it had failed at the last look."""
    silent_since: float | None = None
    """Wall-clock time of the first knock it left unanswered, or None."""


def knock(
    url: str, *, models: Iterable[str] | None, timeout_s: float, hung_after_s: float, state: Path
) -> list[str]:
    """One sentence for each model at `url` that cannot work; an empty list when all can.

    `models` None asks all that Triton has loaded, ensembles apart: those have no process of their own.
    """
    records = _load(state)
    with grpc.insecure_channel(url, options=_UNLIMITED) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if (problem := _server_problem(stub, timeout_s)) is not None:
            return [problem]
        try:
            names = _stages(stub, timeout_s) if models is None else list(models)
        except grpc.RpcError as error:
            return [f"Triton does not list its models ({error.code().name})."]
        problems = _model_problems(stub, names, records, timeout_s=timeout_s, hung_after_s=hung_after_s)
    _store(state, records)
    return list(problems.values())


def look(
    url: str, *, models: Iterable[str], records: dict[str, Record], timeout_s: float, hung_after_s: float
) -> dict[str, str]:
    """One sentence for each of `models` at `url` that cannot work, by name; ``""`` is Triton itself.

    `records` is what earlier looks have seen, and is brought up to date.
    """
    with grpc.insecure_channel(url, options=_UNLIMITED) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if (problem := _server_problem(stub, timeout_s)) is not None:
            return {"": problem}
        return _model_problems(stub, models, records, timeout_s=timeout_s, hung_after_s=hung_after_s)


def _model_problems(
    stub: Any, models: Iterable[str], records: dict[str, Record], *, timeout_s: float, hung_after_s: float
) -> dict[str, str]:
    deadline = time.monotonic() + timeout_s
    problems = {}
    for name in models:
        record = records.setdefault(name, Record())
        problem = _model_problem(stub, name, record, deadline)
        if problem is None and _hung(record, hung_after_s):
            problem = f"{name} has answered nothing for {hung_after_s:g} s."
        if problem is not None:
            problems[name] = problem
    return problems


def _stages(stub: Any, timeout_s: float) -> list[str]:
    """The models that do work, whether they are loaded or failed to be."""
    names = _repository(stub, timeout_s)
    if names is None:
        return list(STAGES)
    return [name for name in names if not _is_ensemble(stub, name, timeout_s)]


def _repository(stub: Any, timeout_s: float) -> list[str] | None:
    """All models but those unloaded on purpose; None without the key that opens this list."""
    if (key := os.environ.get("POD_UID")) is None:
        return None
    metadata = ((_ADMIN_HEADER, key),)
    index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=timeout_s, metadata=metadata)
    return [model.name for model in index.models if model.state and model.reason != "unloaded"]


def _is_ensemble(stub: Any, name: str, timeout_s: float) -> bool:
    try:
        answer = stub.ModelConfig(service_pb2.ModelConfigRequest(name=name), timeout=timeout_s)
    except grpc.RpcError:  # not loaded: to be knocked at, and found broken
        return False
    return bool(answer.config.platform == "ensemble")


def _server_problem(stub: Any, timeout_s: float) -> str | None:
    try:
        answer = stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=timeout_s)
    except grpc.RpcError as error:
        return f"Triton does not answer ({error.code().name})."
    return None if answer.live else "Triton says that it is not live."


def _model_problem(stub: Any, name: str, record: Record, deadline: float) -> str | None:
    """Look at one model and bring its record up to date."""
    try:
        before, failed = _counts(stub, name, _left(deadline))
        if 0 <= record.answered < before and failed == record.failed:
            record.answered, record.silent_since = before, None
            return None
        problem = _knock_at_instances(stub, name, record, deadline)
        record.answered, record.failed = _counts(stub, name, _left(deadline))  # a knock is no sign of work
    except grpc.RpcError as error:
        return _verdict(name, record, error)
    return problem


def _left(deadline: float) -> float:
    return max(0.2, deadline - time.monotonic())


def _knock_at_instances(stub: Any, name: str, record: Record, deadline: float) -> str | None:
    """Triton gives requests to idle instances in turn, so as many knocks as instances reach each of them."""
    config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=name), timeout=_left(deadline)).config
    request = _smallest_request(stub, name, _left(deadline))
    for _ in range(max(1, sum(group.count for group in config.instance_group))):
        try:
            stub.ModelInfer(request, timeout=_left(deadline))
        except grpc.RpcError as error:
            if (problem := _verdict(name, record, error)) is not None:
                return problem
        else:
            record.silent_since = None
    return None


def _verdict(name: str, record: Record, error: Any) -> str | None:
    code, details = error.code(), str(error.details() or "")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        record.silent_since = record.silent_since or time.time()
        return None
    own_words = _OWN_WORDS in details
    if own_words or code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE):
        record.silent_since = None
        return None
    return f"{name} is broken ({code.name}: {details[:200]})"


def _hung(record: Record, hung_after_s: float) -> bool:
    return record.silent_since is not None and time.time() - record.silent_since > hung_after_s


def _counts(stub: Any, name: str, timeout_s: float) -> tuple[int, int]:
    """Requests that a model has answered and failed since it was loaded."""
    request = service_pb2.ModelStatisticsRequest(name=name)
    stats = stub.ModelStatistics(request, timeout=timeout_s).model_stats
    answered = sum(int(model.inference_stats.success.count) for model in stats)
    return answered, sum(int(model.inference_stats.fail.count) for model in stats)


def _smallest_request(stub: Any, name: str, timeout_s: float) -> Any:
    """The smallest request that `name`'s declared inputs allow: one element for each free axis, all zero."""
    metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name), timeout=timeout_s)
    request = service_pb2.ModelInferRequest(model_name=name, id="probe")
    for tensor in metadata.inputs:
        shape = [max(1, int(axis)) for axis in tensor.shape]
        items = 1
        for axis in shape:
            items *= axis
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        request.raw_input_contents.append(bytes(items * _ITEM_BYTES[tensor.datatype]))
    return request


def _load(state: Path) -> dict[str, Record]:
    try:
        return {name: Record(**record) for name, record in json.loads(state.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _store(state: Path, records: dict[str, Record]) -> None:
    partial = state.with_suffix(".new")
    text = json.dumps({name: vars(record) for name, record in records.items()})
    partial.write_text(text, "utf-8")
    partial.replace(state)


def _startup(url: str, timeout_s: float, state: Path) -> list[str]:
    from spine_server.canary import run_canary  # numpy and the rest, needed once only

    with grpc.insecure_channel(url, options=_UNLIMITED) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if (problem := _server_problem(stub, timeout_s)) is not None:
            return [problem]
        try:
            names = _repository(stub, timeout_s)
        except grpc.RpcError as error:
            return [f"Triton does not list its models ({error.code().name})."]
    if names is not None and ENTRY_MODEL not in names:
        return knock(url, models=None, timeout_s=timeout_s, hung_after_s=timeout_s, state=state)
    try:
        run_canary(url, timeout_s=timeout_s)
    except CanaryError as error:
        return [str(error)]
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Probe once. Returns the exit code."""
    parsed = _parser().parse_args(arguments)
    folder = Path(parsed.state_folder or tempfile.gettempdir())
    state = folder / f"spine-probe-{parsed.kind}.json"
    if parsed.kind == "startup":
        problems = _startup(parsed.grpc, parsed.timeout, state)
    else:
        problems = knock(
            parsed.grpc,
            models=parsed.model,
            timeout_s=parsed.timeout,
            hung_after_s=parsed.hung_after,
            state=state,
        )
    for problem in problems:
        print(f"spine-probe {parsed.kind}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spine-probe", description=(__doc__ or "").partition("\n\n")[0])
    add = parser.add_argument
    add("kind", choices=("startup", "ready", "live"))
    add("--grpc", default="127.0.0.1:8001", metavar="HOST:PORT", help="Triton (default: 127.0.0.1:8001)")
    add("--timeout", type=float, default=10.0, metavar="S", help="for all of it (default: 10)")
    add("--hung-after", type=float, default=120.0, metavar="S", help="longest silence (default: 120)")
    add("--model", action="append", metavar="NAME", help="models to knock at (default: all)")
    add("--state-folder", metavar="DIR", help="where the last look is remembered (default: /tmp)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
