"""Makes the virtual clock of tests/transport and the meetings of tests/hub known here."""

import sys
from pathlib import Path

for room in ("transport", "hub", "signaling"):
    sys.path.append(str(Path(__file__).parent.parent / room))
