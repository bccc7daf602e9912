"""`python -m spine_client.cli` is `spine`."""

import sys

from spine_client.cli.main import main

sys.exit(main())
