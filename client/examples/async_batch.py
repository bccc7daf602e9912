"""Analyse many studies at a time with asyncio; a failure of one does not stop the others.

python async_batch.py /data/a /data/b.zip /data/c.nii.gz --url 127.0.0.1:8001
"""

import argparse
import asyncio

from spine_client import AsyncSpineClient, RetryPolicy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("sources", nargs="+")
parser.add_argument("--url", default="127.0.0.1:8001")
parser.add_argument("--concurrency", type=int, default=2)
arguments = parser.parse_args()


async def main() -> int:
    """Print a line per study as it is done; how many failed."""
    failed = 0
    patient = RetryPolicy(max_attempts=12, max_pause_s=8)  # rides out a restart of the server
    async with AsyncSpineClient(arguments.url, retry=patient) as client:
        async for outcome in client.analyze_many(arguments.sources, max_concurrency=arguments.concurrency):
            if outcome.ok:
                result = outcome.result
                print(f"#{outcome.index}: {len(result.discs)} discs in {result.elapsed_s:.1f} s")
            else:
                failed += 1
                print(f"#{outcome.index}: {type(outcome.error).__name__}: {outcome.error}")
    return failed


raise SystemExit(1 if asyncio.run(main()) else 0)
