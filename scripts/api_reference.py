"""The client's API reference, from its docstrings: static pages that need nothing from elsewhere.

usage: scripts/api_reference.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pdoc

import spine_client

_MODULES = ("spine_client", "spine_client.errors", "spine_client.sources", "spine_client.report",
            "spine_client.rows", "spine_client.dicom", "spine_client.dicomweb")  # fmt: skip
"""The package, whose page has all public names, and modules that a caller may read about or import."""


def build(folder: Path) -> Path:
    """Write the pages into `folder`; the page to begin with."""
    for name in spine_client.__all__:  # the clients are imported when first asked for; pdoc does not ask
        setattr(spine_client, name, getattr(spine_client, name))
    for client in (spine_client.SpineClient, spine_client.AsyncSpineClient):  # inherited from a private class
        client.with_options = client.with_options
    pdoc.render.configure(
        docformat="numpy",
        show_source=False,
        footer_text=f"SpineServe client {spine_client.__version__}. Research software, not a medical device.",
    )
    with warnings.catch_warnings():
        # Aliases with names of heavy packages are not resolved; pdoc then shows them as they are written.
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        pdoc.pdoc(*_MODULES, output_directory=folder)
    return folder / "spine_client.html"


def main() -> None:
    """Build, and say where."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/docs"), metavar="FOLDER")
    print(f"API reference: {build(parser.parse_args().out)}")


if __name__ == "__main__":
    main()
