"""What templates are compiled to is kept where Python keeps what it compiles of modules, under the same conditions."""

from __future__ import annotations

import contextlib
import sys
from importlib.util import cache_from_source
from pathlib import Path

from jinja2.bccache import Bucket, FileSystemBytecodeCache

from tiltflow.kept_code import CANNOT_BE_READ


class CompiledTemplates(FileSystemBytecodeCache):
    """Compiled templates beside those of a folder, in `__pycache__` or under `PYTHONPYCACHEPREFIX`.

    A template that was changed is compiled anew.  Where nothing can be kept (a read-only installation, a full disk,
    `PYTHONDONTWRITEBYTECODE`) nothing is, and nothing is said.

    Parameters
    ----------
    templates
        Their folder.
    """

    def __init__(self, templates: Path) -> None:
        super().__init__(str(Path(cache_from_source(str(templates / "template.py"))).parent), "%s.template")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take over what was compiled, if it can be read and is of this template."""
        try:
            super().load_bytecode(bucket)
        except CANNOT_BE_READ:
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled, if that is possible and wanted."""
        if not sys.dont_write_bytecode:
            with contextlib.suppress(OSError):
                Path(self.directory).mkdir(parents=True, exist_ok=True)
                super().dump_bytecode(bucket)
