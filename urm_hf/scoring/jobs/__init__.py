"""`urm score`: files of any size, in parts, by any number of processes, resumable."""
