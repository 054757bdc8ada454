"""`python -m nnunet_partial.cli`, where the command itself is not on the PATH."""

import sys

from nnunet_partial.cli import main

sys.exit(main())
