"""`python -m tiltflow.batchruntomo`: the same as the script `tiltflow-batchruntomo`."""

import sys

from tiltflow.batchruntomo import main

sys.exit(main())
