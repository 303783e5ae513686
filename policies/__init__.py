"""The policy language: parse, check, compile to SQL, evaluate, explain."""
