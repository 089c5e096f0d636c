"""What goes wrong with actors, in the words of a run."""

from __future__ import annotations

import re

from ray.exceptions import RayError, RayTaskError

from fdf.errors import FdfError, MissingDependency, Problem
from fdf_runner_ray.contacts import Contact, HostContact


def reason(error: RayError) -> str:
    """Return what an actor was lost by."""
    return "its node was lost" if "node has died" in str(error) else "its process was killed"


def not_taken(contact: Contact, error: RayTaskError) -> FdfError:
    """Return what is wrong where a call of an actor raised: a module that its node lacks, else a bug."""
    # Ray passes the error of reading arguments on in words alone.
    missing = re.search(r"No module named '([^']+)'", str(error))
    if missing is not None and contact.introduction is not None:
        return MissingDependency(
            Problem(
                code="FDF525",
                message=f"node {contact.introduction.node} has no module `{missing[1]}`, which this run needs",
                help="install the packages that this driver has on every node",
            )
        )
    return bug(contact, str(error))


def cannot_start(error: RayError) -> MissingDependency:
    """Return what is wrong where an actor's own start fails."""
    told = str(error).rstrip()
    return MissingDependency(
        Problem(
            code="FDF525",
            message=f"workers cannot be started on the cluster: {told.splitlines()[-1]}\n\n{told}",
            help="install fdf-runner-ray and the packages of your operators on every node, in the driver's versions",
        )
    )


def bug(contact: Contact, trace: str) -> FdfError:
    """Return what is told of an error that nobody expected, with its trace."""
    names = [task.name for task in contact.tasks.values()] if isinstance(contact, HostContact) else []
    at = f" on split {', '.join(names)}" if names else ""
    return FdfError(
        Problem(
            code="FDF901",
            message=f"an actor on the cluster failed{at}: {trace.rstrip()}",
            help="this is a bug in FDF or in a plugin's source or sink; what was committed is safe",
        )
    )
