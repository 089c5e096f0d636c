"""An operator that needs a package from an extra that nobody installed."""

import not_on_this_machine  # noqa: F401
