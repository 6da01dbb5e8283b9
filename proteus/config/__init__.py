"""Config files: load, override and validate them before anything is built."""
