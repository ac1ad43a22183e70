"""One file per stage of the job; each reads files, does one thing, and writes files."""
