"""Parts of NumPy that are left out: nobody who needs them misses them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from tiltflow.unused_parts import leave_out_unused_parts
leave_out_unused_parts()
from scipy import fft, linalg, ndimage, sparse, spatial, special
print([name for name in ("numpy.f2py", "numpy.testing") if name in sys.modules])
import numpy as np
np.testing.assert_allclose(1.0, 1.0)
from numpy.f2py import get_include
import numpy.testing as npt
print(npt is sys.modules["numpy.testing"] is np.testing, np.f2py.get_include is get_include)
"""


def test_what_is_left_out_is_imported_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True True"]
