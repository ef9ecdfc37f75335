"""Many runs: who does which, how each is getting on, and what became of it."""
