"""Chooses the stack to analyse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spine_client.dicom.stacks import Stack
from spine_client.errors import InputError
from spine_client.notices import Notice, notice

SELECTION_RULE = (
    "Localizers are left out. Of the other stacks: magnitude images before phase and parameter maps, "
    "sagittal before other planes, then the most slices, then the longest echo time (most T2-weighted), "
    "then the lowest series number."
)


def choose_stack(stacks: Sequence[Stack], series: str | None) -> tuple[Stack, list[Notice]]:
    """The stack named by `series`, else the best by `SELECTION_RULE`; and notices about the others.

    Raises `InputError` if `series` is not there, if all are localizers, and if the chosen series mixes
    orientations (a stack id with ``#`` then says which one is meant).
    """
    if series is not None and "#" in series:
        return _by_id(stacks, series), []
    candidates = [stack for stack in stacks if series in (None, stack.series_uid)]
    if not candidates:
        raise InputError(
            "no_such_series", "the series asked for is not in the source; `spine inspect` lists all"
        )
    useful = [stack for stack in candidates if not stack.is_localizer]
    if not useful and series is None:
        raise InputError("only_localizers", "the source holds localizers only; name one by its id to use it")
    useful = useful or candidates
    chosen = min(useful, key=_rank)
    _refuse_mixed_orientations(chosen, useful)
    return chosen, _about_others(candidates, useful)


def _by_id(stacks: Sequence[Stack], stack_id: str) -> Stack:
    for stack in stacks:
        if stack.stack_id == stack_id:
            return stack
    raise InputError("no_such_series", "the stack asked for is not in the source; `spine inspect` lists all")


def _rank(stack: Stack) -> tuple[object, ...]:
    number = stack.frames[0].series_number
    return (
        not stack.is_magnitude,
        stack.plane != "sagittal",
        -len(stack.frames),
        -(stack.echo_time_ms or 0.0),
        number if number is not None else 1 << 31,
        stack.stack_id,
    )


def _refuse_mixed_orientations(chosen: Stack, useful: Sequence[Stack]) -> None:
    same_series = [stack for stack in useful if stack.series_uid == chosen.series_uid]
    normals = [stack.frames[0].normal for stack in same_series]
    if any(abs(float(np.dot(chosen.frames[0].normal, normal))) < 0.999 for normal in normals):
        raise InputError(
            "mixed_orientations",
            f"the series holds {len(same_series)} stacks of images in different orientations; "
            "`spine inspect` lists them: name the one to use by its id",
        )


def _about_others(candidates: Sequence[Stack], useful: Sequence[Stack]) -> list[Notice]:
    notices = []
    localizers = len(candidates) - len(useful)
    if localizers:
        notices.append(notice("localizer", f"{localizers} localizer stacks were left out"))
    if len(useful) > 1:
        notices.append(
            notice(
                "other_stacks",
                f"{len(useful) - 1} other image stacks (series, echoes or repeats) were not used; "
                "`spine inspect` lists them",
            )
        )
    return notices
