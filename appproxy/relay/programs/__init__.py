"""Programs that use an application without a browser: their tokens, and how they are told what is missing."""
