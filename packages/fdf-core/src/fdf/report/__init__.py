"""What a finished run can tell: read from manifests and committed files alone, for the command line to show."""
