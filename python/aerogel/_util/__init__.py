"""Small things that every part uses: numbers for people, the cache folder, how progress is told, the version."""
