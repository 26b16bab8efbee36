"""The one exception tree.

::

    TiltflowError
    ├── InputError                  something about the user's files
    │   ├── FormatError             (ValueError)  a file is not what it claims to be
    │   ├── MissingValueError       (ValueError)  no source gives the angles, the pixel size, ...
    │   ├── LocationError           (ValueError)  a share, folder or path that cannot be used
    │   └── InputChangedError       (ValueError)  a file changed while it was being read
    ├── ParameterError              (ValueError)  a parameter that is out of range
    │   └── DirectiveError          a directive that is unknown, misspelt or malformed
    ├── SettingsError               (ValueError)  the site's settings
    ├── UnsupportedError            (NotImplementedError)  a valid request this engine cannot carry out
    ├── ResourceError               (OSError)     the work does not fit the memory or the disk
    │   └── MemoryShortageError     ... the memory
    ├── StageError                  (RuntimeError)  a stage could not give a result from these data
    ├── EngineError                 (RuntimeError)  an engine ended without its outputs
    ├── CommandError                (RuntimeError)  a program failed: its command, status and last lines
    └── DeliveryError               (RuntimeError)  publishing or the callback
        └── CallbackError           the portal's API refused
            └── CallbackDelayError  ... or could not be reached: later it may take what is sent

Each also inherits the builtin that callers expect.  A message says what was wrong, the value found, where, and what
to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence


class TiltflowError(Exception):
    """Base class of all errors that tiltflow raises itself."""


class InputError(TiltflowError):
    """Something is wrong with the user's files."""


class FormatError(InputError, ValueError):
    """A file is not what it claims to be."""


class MissingValueError(InputError, ValueError):
    """No source gives a value that the work needs."""


class LocationError(InputError, ValueError):
    """A share, folder or path that cannot be used."""


class InputChangedError(InputError, ValueError):
    """A file changed while it was being read, so that what was read of it does not belong together."""


class ParameterError(TiltflowError, ValueError):
    """A parameter that is out of range."""


class DirectiveError(ParameterError):
    """A directive that is unknown, misspelt or malformed."""


class SettingsError(TiltflowError, ValueError):
    """A setting of the site is missing or wrong."""


class UnsupportedError(TiltflowError, NotImplementedError):
    """A valid request that the chosen engine cannot carry out."""


class ResourceError(TiltflowError, OSError):
    """The work does not fit the memory or the disk."""


class MemoryShortageError(ResourceError):
    """The work needs more memory than there is."""


class StageError(TiltflowError, RuntimeError):
    """A stage could not give a result from these data."""


class EngineError(TiltflowError, RuntimeError):
    """An engine ended without its outputs."""


class CommandError(TiltflowError, RuntimeError):
    """A program failed.

    Parameters
    ----------
    message
        What failed, ready to show.
    command
        The command and its arguments.
    status
        Its exit status; negative for a signal.
    last_lines
        The end of what it printed.
    """

    def __init__(self, message: str, command: Sequence[str], status: int, last_lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.command = tuple(command)
        self.status = status
        self.last_lines = tuple(last_lines)


class DeliveryError(TiltflowError, RuntimeError):
    """A result could not be published."""


class CallbackError(DeliveryError):
    """The portal's API refused the callback or could not be reached.

    Parameters
    ----------
    message
        What failed, ready to show.
    attempts
        How often it was tried.
    """

    def __init__(self, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


class CallbackDelayError(CallbackError):
    """The portal's API could not be reached, or was not ready: sent later, the callback may be taken.

    Parameters
    ----------
    message, attempts
        As of :class:`CallbackError`.
    wait_s
        The wait that the API asked for, s; 0 if it asked for none.
    """

    def __init__(self, message: str, attempts: int = 1, wait_s: float = 0.0) -> None:
        super().__init__(message, attempts)
        self.wait_s = wait_s
