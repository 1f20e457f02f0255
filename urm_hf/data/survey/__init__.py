"""What is in a file of rows, before anything is trained or scored on it: `urm data`."""
