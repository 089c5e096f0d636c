"""A package that cannot be imported."""

raise RuntimeError("this package was built for another planet")
