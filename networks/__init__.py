"""How units are wired and run."""
