"""What the `helm test` pods run: the SDK against the release's service, as any caller would.

usage: helm_test.py health|phantom   (SPINESERVE_URL, SPINESERVE_TLS, SPINESERVE_KEYS in the environment)
"""

import os
import sys
from pathlib import Path

from spine_client import Access, SpineClient, Tls


def connect() -> SpineClient:
    """A client with what the pod was given: certificates in SPINESERVE_TLS, a key in SPINESERVE_KEYS."""
    tls = access = None
    if folder := os.environ.get("SPINESERVE_TLS"):
        pair = [Path(folder, name) for name in ("tls.crt", "tls.key")]
        certificate, key = pair if all(path.is_file() for path in pair) else (None, None)
        tls = Tls(root_certificates=Path(folder, "ca.crt"), certificate=certificate, private_key=key)
    if folder := os.environ.get("SPINESERVE_KEYS"):
        first = min(path for path in Path(folder).iterdir() if path.is_file() and path.name[0] != ".")
        access = Access(api_key=first.read_text().strip(), allow_plaintext=tls is None)
    return SpineClient(os.environ["SPINESERVE_URL"], tls=tls, access=access)


def check_health(client: SpineClient) -> str:
    """A deep health check: a canary volume goes through every stage."""
    health = client.health(deep=True)
    assert health.ok, f"not healthy: {health}"
    return f"healthy, canary took {health.canary_s:.1f} s"


def check_phantom(client: SpineClient) -> str:
    """A synthetic lumbar spine is found: at least three discs, each measured."""
    from spine_client import Volume
    from spinecore.phantom import SMALL_LUMBAR, make_phantom

    phantom = make_phantom(SMALL_LUMBAR)
    result = client.analyze(Volume(phantom.image, phantom.affine))
    measured = [disc.height_mm.cnn for disc in result.discs]
    heights = [each.mean for each in measured if each is not None and each.mean is not None]
    assert len(heights) >= 3, f"only {len(heights)} discs measured"
    assert all(1.0 < height < 25.0 for height in heights), f"impossible heights: {heights}"
    return f"{len(heights)} discs measured in {result.elapsed_s:.1f} s"


if __name__ == "__main__":
    with connect() as open_client:
        print({"health": check_health, "phantom": check_phantom}[sys.argv[1]](open_client))
