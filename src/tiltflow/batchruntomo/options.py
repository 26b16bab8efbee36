"""batchruntomo's options, and how a word names one.

An option is a dash and a name, long (`-DirectiveFile`) or short (`-directive`), or a beginning of either that no other option has.
Upper and lower case count first, so that `-st` is `-start` and not `-StartForFirstSetOnly`; if nothing fits, they are ignored.

The names are those of IMOD 4.9's manual page; `-BypassEtomo` and `-NamingStyle` came later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tiltflow.errors import ParameterError

Kind = Literal["text", "whole", "number", "switch"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes
    ----------
    name, short
        Its two names, without the dash.
    kind
        What its value is; a switch has none.
    meaning
        One line for the help.
    unheeded
        Why it has no effect here; empty if it is followed.
    """

    name: str
    short: str
    kind: Kind
    meaning: str
    unheeded: str = ""


OPTIONS = (
    Option("DirectiveFile", "directive", "text", "File of directives for one or more data sets; may be repeated"),
    Option("RootName", "root", "text", "Root name of a data set; may be repeated"),
    Option("CurrentLocation", "current", "text", "Folder of a data set, in which it is processed; may be repeated"),
    Option("StartingStep", "start", "number", "Step to start with"),
    Option("EndingStep", "end", "number", "Step to end with: 6 after the alignment, 8 after the aligned stack"),
    Option("StartForFirstSetOnly", "first", "switch", "The starting step holds for the first data set only"),
    Option("UseExistingAlignment", "use", "switch", "Use the existing alignment; always so from step 7 on"),
    Option("CPUMachineList", "cpus", "text", "Number of cores of this machine; one if not given"),
    Option("LimitLocalThreads", "limit", "whole", "Most threads to use"),
    Option("ExitOnError", "exit", "switch", "Stop at the first data set that fails"),
    Option("ValidationType", "validation", "whole", "1 or 2 only to check the directives, -1 not to check their names"),
    Option("DeliverToDirectory", "deliver", "text", "Refused: move the data set first"),
    Option("ProcessOneAxis", "one", "whole", "No effect", "every data set has a single axis"),
    Option("GPUMachineList", "gpus", "text", "No effect", "the work is done on the CPU"),
    Option("SingleOnFirstCPU", "single", "switch", "No effect", "all work is done on this machine"),
    Option("NiceValue", "nice", "whole", "No effect", "the work has the priority with which this program was started"),
    Option("RemoteDirectory", "remote", "text", "No effect", "all work is done on this machine"),
    Option("CheckFile", "check", "text", "No effect", "to stop, end this program (Ctrl-C, kill)"),
    Option("EmailAddress", "email", "text", "No effect", "no messages are sent"),
    Option("SMTPserver", "SMTP", "text", "No effect", "no messages are sent"),
    Option("EtomoDebug", "etomo", "whole", "No effect", "eTomo is not run"),
    Option("BypassEtomo", "bypass", "switch", "No effect", "eTomo is never run"),
    Option("NamingStyle", "naming", "whole", "No effect", "files have the names of IMOD 5: NAME_ali.mrc, NAME_rec.mrc"),
)

PARAMETER_FILE = Option("ParameterFile", "param", "text", "Read options from a file")
STANDARD_INPUT = Option("StandardInput", "StandardInput", "switch", "Read options from the standard input")


def find_option(word: str) -> Option:
    """Return the option that a word, without its dash, names or begins.

    >>> find_option("di").name, find_option("st").name, find_option("endingstep").name
    ('DirectiveFile', 'StartingStep', 'EndingStep')

    Raises
    ------
    ParameterError
        If it is none's, or begins several.
    """
    known = (*OPTIONS, PARAMETER_FILE, STANDARD_INPUT)
    for fold in (str, str.lower):
        sought = fold(word)
        names = [(option, (fold(option.name), fold(option.short))) for option in known]
        found = [option for option, own in names if sought in own] or [
            option for option, own in names if any(name.startswith(sought) for name in own)
        ]
        if len(found) > 1:
            raise ParameterError(f"Ambiguous option: -{word} could be {' or '.join(f'-{each.name}' for each in found)}")
        if found:
            return found[0]
    raise ParameterError(f"Illegal option: -{word}; -help lists those there are")


def render_usage() -> str:
    """Return the help: every option with its short name."""
    lines = [
        "Usage: batchruntomo [options] directive_file ...",
        "Aligns and reconstructs tilt series with tiltflow's own engine, in the place of IMOD's batchruntomo.",
        "Options can be abbreviated; current names:",
    ]
    return "\n".join([*lines, *(f"  -{each.short:<11} -{each.name:<21} {each.meaning}" for each in OPTIONS)])
