"""nnUNetPredictor behind FastAPI: what a user would otherwise build. Run by uvicorn with one worker.

``POST /segment?shape=1,38,257,201&spacing=1,1,1`` with the float32 voxels as its body answers with the
labels' bytes. The array is the one that nnU-Net's reader gives, which spares this server the turning of axes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from speed.predictor import Predictor

RESULTS, THREADS = "SPEED_RESULTS", "SPEED_THREADS"
app = FastAPI()
predictor = Predictor(Path(os.environ[RESULTS]), threads=int(os.environ[THREADS]))


@app.get("/ready")
def ready() -> dict[str, bool]:
    """The network is loaded."""
    return {"ready": True}


@app.post("/segment")
async def segment(request: Request, shape: str, spacing: str) -> Response:
    """The labels of one volume."""
    sizes = [int(size) for size in shape.split(",")]
    array = np.frombuffer(await request.body(), np.float32).reshape(sizes)
    labels = await run_in_threadpool(predictor.segment, array, tuple(map(float, spacing.split(","))))
    return Response(labels.tobytes(), media_type="application/octet-stream")
