"""People: who is signed in, how they sign in and out, and what the relay keeps of it."""
