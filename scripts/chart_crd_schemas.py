"""Makes the JSON schemas of custom resources in ``tests/helm/schemas/``, closed against unknown fields.

Run by hand when a newer version of a CRD is wanted; the results are committed, so the tests need none of
this. It makes a throw-away environment, because these packages serve nothing else:

* Prometheus operator, cert-manager: pydantic models made from the CRDs (PyPI ``cloudcoil.models.*``)
* GRPCRoute, ScaledObject: TypeScript types made from the projects' Go types (npm ``@kubernetes-models/*``)
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[1] / "tests" / "helm" / "schemas"
PYDANTIC_PACKAGES = (
    "cloudcoil.models.prometheus-operator==0.80.1.0",
    "cloudcoil.models.cert-manager==1.17.1.0",
)
PYDANTIC_KINDS = {
    "ServiceMonitor": "prometheus_operator.v1",
    "PodMonitor": "prometheus_operator.v1",
    "PrometheusRule": "prometheus_operator.v1",
    "Certificate": "cert_manager.v1",
}
NPM_PACKAGES = (
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "ts-json-schema-generator",
)
TYPESCRIPT_KINDS = {
    "GRPCRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/GRPCRoute",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
}
DROPPED = {"title", "description", "default", "$comment", "examples"}


def closed(schema: Any) -> Any:
    """`schema` without prose and null alternatives, every object with named properties closed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema if item != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in DROPPED or key == "properties"}
    kept = {
        key: {name: closed(sub) for name, sub in value.items()}
        if key in ("properties", "$defs", "definitions")
        else closed(value)
        for key, value in kept.items()
    }
    if len(kept.get("anyOf", ())) == 1:
        kept |= kept.pop("anyOf")[0]
    if "properties" in kept:
        kept["additionalProperties"] = False
        kept["properties"].pop("status", None)
    return kept


def pydantic_schemas(folder: Path) -> dict[str, Any]:
    """Schemas of `PYDANTIC_KINDS`."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PYDANTIC_PACKAGES], check=True)
    program = (
        "import importlib, json, sys\n"
        "kinds = json.loads(sys.argv[1])\n"
        "print(json.dumps({k: getattr(importlib.import_module('cloudcoil.models.' + m), k)"
        ".model_json_schema(by_alias=True) for k, m in kinds.items()}))"
    )
    done = subprocess.run(
        [python, "-c", program, json.dumps(PYDANTIC_KINDS)], check=True, capture_output=True
    )
    schemas: dict[str, Any] = json.loads(done.stdout)
    return schemas


def typescript_schemas(folder: Path) -> dict[str, Any]:
    """Schemas of `TYPESCRIPT_KINDS`."""
    options = {"target": "ES2022", "module": "NodeNext", "moduleResolution": "NodeNext", "skipLibCheck": True}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *NPM_PACKAGES], check=True)
    command = ["npx", "--silent", "ts-json-schema-generator", "--path", "root.ts", "--type", "Root"]
    command += ["--tsconfig", "tsconfig.json", "--no-type-check", "-o", "out.json"]
    schemas = {}
    for kind, module in TYPESCRIPT_KINDS.items():
        (folder / "root.ts").write_text(f'import {{ I{kind} }} from "{module}";\nexport type Root = I{kind};')
        subprocess.run(command, cwd=folder, check=True)
        schemas[kind] = json.loads((folder / "out.json").read_text())
    return schemas


def main() -> int:
    """Write all schemas."""
    with tempfile.TemporaryDirectory() as name:
        schemas = {**pydantic_schemas(Path(name)), **typescript_schemas(Path(name))}
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for kind, schema in schemas.items():
        text = json.dumps(closed(schema), separators=(",", ":"), sort_keys=True)
        (SCHEMAS / f"{kind}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{kind}: {len(text)} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
