"""Load tests with Locust: workloads, the gRPC user, what the server says meanwhile, summaries, comparisons.

``make load`` and ``benchmarks/run.py`` run it. Only `load.locustfile` imports Locust, which patches the whole
process for gevent; everything else is plain Python and runs in the process that looks on.
"""
