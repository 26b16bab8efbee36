"""Code that was compiled before and is kept on a disk: what may go wrong when it is read."""

from __future__ import annotations

import pickle

CANNOT_BE_READ = (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, ValueError)
"""What reading raises of a file that is broken, as a power cut leaves it: pickle names no fewer."""
