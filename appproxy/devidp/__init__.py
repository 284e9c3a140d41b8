"""A development identity provider: honest, small, on this machine only, and loudly marked as what it is."""
