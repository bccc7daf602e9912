"""Analyse one series and print what was measured.

python one_series.py /data/study --url 127.0.0.1:8001 --out out
"""

import argparse

from spine_client import InputError, SpineClient, SpineClientError

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("source", help="DICOM folder, zip archive, DICOMDIR, NIfTI, NRRD or MetaImage file")
parser.add_argument("--url", default="127.0.0.1:8001")
parser.add_argument("--out")
arguments = parser.parse_args()

try:
    with SpineClient(arguments.url, timeout_s=120) as client:
        result = client.analyze(arguments.source)
except InputError as error:  # the source: `code` is for programs, the message for people
    raise SystemExit(f"{error.code}: {error}") from None
except SpineClientError as error:
    raise SystemExit(f"{error} {'(worth another try)' if error.retryable else ''}") from None

for warning in result.warnings:
    print("warning:", warning.message)
for disc in result.discs:
    height, canal = disc.height_mm.geometric, disc.canal_ap_mm.geometric
    print(f"{disc.title:8} height {height.mean if height else '–'} mm, canal AP {canal} mm")
if arguments.out:
    result.save(arguments.out)
