"""Who is it?  Pre-authentication by OpenID Connect.

``oidc`` is what the gateway asks; ``provider`` talks to the identity provider, and ``metadata``, ``keys`` and
``tokens`` check what comes; ``attempts``, ``cookies`` and ``targets`` are what travels with the browser meanwhile.
"""
