"""The gate: an authorising gRPC proxy that stands between callers and Triton inside one pod.

Triton can ask for a key per protocol, but not say which models a caller may use, and it takes its keys on the
command line, where every process list shows them. The gate ends TLS, checks keys that it reads from files,
lets through the few methods a caller needs and only the entry models, and passes the rest on untouched.
It holds no state, decodes no volume, and logs no payload.

``python -m spine_server.gate --help`` lists its options; the chart in ``helm/`` runs it beside Triton.
"""
