"""``benchmarks/run.py``: a load test from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from reliability.outcome_table import markdown

from load import session
from load.compare import compare, conclusion, read_run, rows
from load.generator import GeneratorError, join
from load.session import Settings
from load.target import Target
from load.task import Task
from load.text import one_line, summary_text
from load.volumes import DEFAULT_CACHE, samples_of
from load.workload import WorkloadError, read_workload
from spine_client import SpineClientError

WORKLOADS = Path(__file__).parents[1] / "workloads"
_STOPPED = 130
"""As shells say of what Ctrl-C has ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(words)
    try:
        return _run(arguments, "benchmarks/run.py " + shlex.join(words))
    except (WorkloadError, GeneratorError, SpineClientError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return session.WRONG_USE
    except KeyboardInterrupt:
        print("run.py: stopped; there is no summary", file=sys.stderr)
        return _STOPPED


def _run(arguments: argparse.Namespace, command: str) -> int:
    if arguments.compare:
        return _compare(*arguments.compare)
    if arguments.worker_of:
        return _join(arguments)
    settings = _settings(arguments, command)
    if arguments.host:
        return _finish(settings)
    from load.embedded import embedded_server  # a machine that only sends has no server

    folder = settings.results.with_name(settings.results.name + "-server")
    folder.mkdir(parents=True, exist_ok=True)
    print("starting a server …", flush=True)
    with embedded_server(folder) as replica:
        host = f"127.0.0.1:{replica.port}"
        return _finish(
            dataclasses.replace(
                settings,
                target=Target(hosts=(host,)),
                statistics_hosts=[host],
                metrics_urls=[f"http://127.0.0.1:{replica.metrics_port}/metrics"],
                server_pid=replica.pid,
            )
        )


def _compare(before: Path, after: Path) -> int:
    differences = compare(read_run(before), read_run(after))
    print(f"{markdown(rows(differences))}\n\n{conclusion(differences)}", flush=True)
    return session.PASSED


def _finish(settings: Settings) -> int:
    summary = session.run(settings)
    print(f"\n{summary_text(summary)}\nwritten to {settings.results}\n{one_line(summary)}", flush=True)
    return session.exit_code(summary)


def _settings(arguments: argparse.Namespace, command: str) -> Settings:
    single = [host for host in arguments.host if "://" not in host and "," not in host]
    return Settings(
        workload_path=workload_path(arguments.workload),
        target=_target(arguments),
        results=arguments.out,
        cache=arguments.cache,
        command=command,
        compress=arguments.compress,
        slo_path=arguments.slo,
        statistics_hosts=arguments.statistics or single,
        metrics_urls=arguments.metrics_url,
        capacity_per_s=None if arguments.capacity is None else arguments.capacity / 3600.0,
        local_workers=arguments.workers,
        remote_workers=arguments.remote_workers,
        master_host=arguments.master_host,
        master_port=arguments.master_port,
    )


def _join(arguments: argparse.Namespace) -> int:
    """Be a worker of a master on another machine, which says what load 1 is."""
    workload = workload_path(arguments.workload)
    kinds = read_workload(workload).volumes
    arguments.cache.mkdir(parents=True, exist_ok=True)
    samples_of(kinds, arguments.cache)  # made before the master counts on this worker
    arguments.out.mkdir(parents=True, exist_ok=True)
    task = Task(
        workload_path=workload,
        target=_target(arguments),
        cache=arguments.cache,
        results=arguments.out,
        compress=arguments.compress,
    )
    return join(task, arguments.worker_of, arguments.master_port)


def workload_path(name: str) -> Path:
    """A file, or the name of one in ``benchmarks/workloads``."""
    path = Path(name)
    if path.exists() or path.suffix:
        return path
    found = WORKLOADS / f"{name}.yaml"
    if not found.exists():
        names = ", ".join(sorted(each.stem for each in WORKLOADS.glob("*.yaml")))
        raise WorkloadError(f"there is no workload {name!r}; there are {names}, or give a file")
    return found


def _target(arguments: argparse.Namespace) -> Target:
    return Target(
        hosts=tuple(arguments.host) or ("127.0.0.1:8001",),
        use_tls=arguments.tls,
        tls_ca=arguments.tls_ca,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        tls_name=arguments.tls_name,
        api_key_env=arguments.api_key_env,
        api_key_file=arguments.api_key_file,
        plaintext_key=arguments.allow_plaintext_key,
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="run.py", description="Load-test a SpineServe server or cluster.")
    add = options.add_argument
    add("--workload", default="small", metavar="NAME|FILE", help="of benchmarks/workloads, or a file")
    add("--out", type=Path, default=Path("out/load/run"), metavar="DIR", help="an empty or new folder")
    add("--cache", type=Path, default=DEFAULT_CACHE, metavar="DIR", help="where phantoms are kept")
    add(
        "--slo",
        type=Path,
        metavar="FILE",
        help="objectives; default: errors ≤ 1 %%, achieved ≥ 95 %%",
    )
    add("--compress", type=float, metavar="N", help="a day in 1/N of its time, at its own rates")
    add("--capacity", type=float, metavar="PER_HOUR", help="what load 1 is, instead of measuring it")
    add("--compare", type=Path, nargs=2, metavar=("A", "B"), help="two folders of results: what changed")
    _add_target(options.add_argument_group("the server; without --host one is started here"))
    _add_workers(options.add_argument_group("more than one process that sends"))
    return options


def _add_target(options: argparse._ArgumentGroup) -> None:
    add = options.add_argument
    add(
        "--host",
        nargs="+",
        default=[],
        metavar="HOST:PORT",
        help="gRPC; several IP:port: round robin",
    )
    add("--tls", action="store_true", help="encrypted, with the roots that gRPC brings")
    add("--tls-ca", metavar="FILE")
    add("--tls-cert", metavar="FILE", help="mutual TLS, with --tls-key")
    add("--tls-key", metavar="FILE")
    add("--tls-name", metavar="NAME", help="expected in the server's certificate")
    add("--api-key-env", metavar="VARIABLE", help="environment variable that holds the API key")
    add("--api-key-file", metavar="FILE")
    add("--allow-plaintext-key", action="store_true", help="send the key over an unencrypted connection")
    add("--statistics", nargs="+", metavar="HOST:PORT", help="replicas, where --host is a name for several")
    add("--metrics-url", nargs="+", default=[], metavar="URL", help="Triton's metrics, of every replica")


def _add_workers(options: argparse._ArgumentGroup) -> None:
    add = options.add_argument
    add("--workers", type=int, default=0, metavar="N", help="Locust workers on this machine")
    add("--remote-workers", type=int, default=0, metavar="N", help="to wait for, from other machines")
    add("--master-host", default="127.0.0.1", metavar="ADDRESS", help="where the master listens for them")
    add("--master-port", type=int, default=5557)
    add(
        "--worker-of",
        metavar="ADDRESS",
        help="be a worker of that master (same workload and host)",
    )
