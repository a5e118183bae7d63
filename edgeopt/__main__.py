"""`python -m edgeopt`."""

import sys

try:
    from edgeopt.cli import main
except KeyboardInterrupt:  # so soon that there is nothing to tell
    sys.exit(130)

sys.exit(main())
