"""How the work is done at this site: the only reader of the environment.

Each setting is taken from the first of these that gives it:

1. an argument of the call (an option of the command);
2. an environment variable, `TILTFLOW_` and the setting's name (`TILTFLOW_SCRATCH`, `TILTFLOW_SLURM_PARTITION`);
3. the TOML file that `TILTFLOW_SETTINGS` names;
4. the default.

A setting that has been renamed is still understood by its old name, with a warning; where both are given, the new one counts.

Settings determine how the work is done.  Those that can change the result, `engine`, `fallback_engine`, `fallback`, `zarr_version` and
`zarr_axes`, become part of the recipe and of its hash.
"""

from tiltflow.settings.credentials import CERTIFICATE_VARIABLES, load_certificates, load_token
from tiltflow.settings.model import (
    FILE_VARIABLE,
    PREFIX,
    SettingHelp,
    Settings,
    SlurmSettings,
    describe_settings,
    load_settings,
    settings_file,
    settings_given,
    unknown_variables,
)
from tiltflow.settings.site import load_site, site_from

__all__ = [
    "CERTIFICATE_VARIABLES",
    "FILE_VARIABLE",
    "PREFIX",
    "SettingHelp",
    "Settings",
    "SlurmSettings",
    "describe_settings",
    "load_certificates",
    "load_settings",
    "load_site",
    "load_token",
    "settings_file",
    "settings_given",
    "site_from",
    "unknown_variables",
]
