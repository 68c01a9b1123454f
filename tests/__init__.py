"""A package, since a namespace of this name gives way to a package `tests` that a library installs (wkw does)."""
