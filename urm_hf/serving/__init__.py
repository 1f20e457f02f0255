"""The HTTP server `urm serve`: rewards with uncertainty for programs that train elsewhere."""
