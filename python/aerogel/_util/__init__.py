"""Small things that every part uses: numbers as text, the cache folder, how progress is told, the version."""
