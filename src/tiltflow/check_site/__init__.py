"""Whether a site is ready: its folders, its portal, its engines, and what other packages add, each looked at as the work would use it.

A check is a small function that returns a :class:`~tiltflow.check_site.finding.Finding`; one that raises is a check that failed.  Other
packages add theirs by the entry point :data:`~tiltflow.check_site.all_checks.GROUP`.
"""
