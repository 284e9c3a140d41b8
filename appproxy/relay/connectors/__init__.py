"""Connectors as the relay knows them: their certificates, how they enrol and come in, which channel carries what."""
