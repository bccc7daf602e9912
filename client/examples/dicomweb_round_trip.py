"""Fetch the MR series of a patient from a PACS, analyse each, store segmentation and report beside it.

export PACS_AUTHORIZATION="Bearer …"
python dicomweb_round_trip.py https://pacs/dicom-web --patient 4711 --url 127.0.0.1:8001
"""

import argparse
import os

from spine_client import Pacs, SpineClient

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("pacs", help="root of its DICOMweb service")
parser.add_argument("--patient", required=True, metavar="ID")
parser.add_argument("--url", default="127.0.0.1:8001")
parser.add_argument("--allow-plaintext", action="store_true", help="the token may go over http://")
arguments = parser.parse_args()

pacs = Pacs(
    arguments.pacs,
    authorization=lambda: os.environ["PACS_AUTHORIZATION"],  # asked anew for every request
    allow_plaintext=arguments.allow_plaintext,
)
found = pacs.find_series(PatientID=arguments.patient, Modality="MR")
sources = [pacs.series(entry.study_uid, entry.series_uid) for entry in found]
with SpineClient(arguments.url) as client:
    for outcome in client.analyze_many(sources, max_concurrency=1):
        if outcome.ok:
            pacs.store_result(outcome.result)
            print(f"series {outcome.index + 1} of {len(sources)}: {len(outcome.result.discs)} discs, stored")
        else:
            print(f"series {outcome.index + 1} of {len(sources)}: {outcome.error}")
