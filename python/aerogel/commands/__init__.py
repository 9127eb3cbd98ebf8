"""The commands of the `aerogel` program, one file each: results on stdout, progress and tables for people on stderr."""
