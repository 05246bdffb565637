"""The libraries that run a pose network, one module each, imported only when one is made."""
