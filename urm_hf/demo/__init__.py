"""The demonstration behind `urm demo`: an ensemble of three, trained on built-in conversations."""
