"""What a network's classes are in the spine: from a table of the user's, or from label names.

Roles are those of `spinecore.findings.ROLES`: vertebra, disc, canal, sacrum, c2. Several classes may
share one (a network that predicts each level directly), since `identify` tells the instances apart itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spine_export.errors import ExportError
from spine_export.files import read_json
from spinecore.findings import ROLES
from spinecore.network_spec import LabelValue

_LEVEL = r"(?:c[1-7]|t(?:h)?1?[0-9]|l[1-6])"
_NAMES = (
    ("c2", r"c2|axis|dens"),
    (
        "disc",
        rf"(?:intervertebral_)?dis[ck]s?|ivds?|(?:dis[ck]|ivd)_.+|{_LEVEL}_?(?:{_LEVEL}|s1)(?:_dis[ck])?",
    ),
    ("canal", r"(?:spinal_|vertebral_)?canal|spinal_canal|thecal_sac|dural_sac"),
    ("sacrum", r"sacrum|s1?"),
    ("vertebra", rf"(?:vertebral_)?(?:body|bodies)|vertebrae?|(?:vertebra_|vertebrae_)?{_LEVEL}"),
)
_NEEDED = {"vertebra", "disc"}


def recognised_roles(labels: Mapping[str, LabelValue]) -> dict[int, str]:
    """Class number -> role by label names; empty where they do not name vertebrae and discs."""
    found = {}
    for name, value in labels.items():
        role = _role_of(name)
        if role is not None and isinstance(value, int):
            found[value] = role
    return found if set(found.values()) >= _NEEDED else {}


def _role_of(name: str) -> str | None:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return next((role for role, pattern in _NAMES if re.fullmatch(pattern, plain)), None)


def roles_from_table(path: Path, labels: Mapping[str, LabelValue]) -> dict[int, str]:
    """Class number -> role by a JSON object of label name or class number -> role.

    ExportError where it names a label that the network lacks or a role that there is not.
    """
    roles = {}
    for key, role in read_json(path, expected="a JSON table of label name or number to role").items():
        if role not in ROLES:
            raise ExportError(f"{path.name}: role {role!r} is unknown; known are {', '.join(ROLES)}.")
        roles[_number(key, labels, path)] = str(role)
    if not set(roles.values()) >= _NEEDED:
        raise ExportError(f"{path.name} must say which labels are a 'vertebra' and which a 'disc'.")
    return dict(sorted(roles.items()))


def _number(key: str, labels: Mapping[str, LabelValue], path: Path) -> int:
    numbers: set[Any] = {n for v in labels.values() for n in (v if isinstance(v, tuple) else (v,))}
    value = labels.get(key, int(key) if key.isdecimal() else None)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int) or value not in numbers or value == 0:
        raise ExportError(f"{path.name}: {key!r} is no foreground label of this network.")
    return value
