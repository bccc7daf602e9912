"""One table over many volumes with pandas: how well do geometry and the CNN agree, level by level?

python pandas_study.py /data/studies/* --url 127.0.0.1:8001 --csv discs.csv
"""

import argparse

import pandas as pd

from spine_client import SpineClient

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("sources", nargs="+")
parser.add_argument("--url", default="127.0.0.1:8001")
parser.add_argument("--csv")
arguments = parser.parse_args()

frames = []
with SpineClient(arguments.url) as client:
    for outcome in client.analyze_many(arguments.sources):
        if outcome.ok:
            frames.append(outcome.result.to_frame().assign(study=outcome.index))
        else:
            print(f"#{outcome.index} left out: {outcome.error}")

discs = pd.concat(frames, ignore_index=True)
whole = discs[discs["complete"]].copy()
whole["difference_mm"] = whole["height_mean_cnn_mm"] - whole["height_mean_mm"]
print(whole.groupby("disc", sort=False)[["height_mean_mm", "difference_mm", "canal_ap_mm"]].mean().round(1))
if arguments.csv:
    discs.to_csv(arguments.csv, index=False)
