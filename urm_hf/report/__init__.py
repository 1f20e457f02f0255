"""What `urm evaluate` measured, for people: a page, a table, sentences."""
