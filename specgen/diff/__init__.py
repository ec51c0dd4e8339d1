"""What a change of a spec means: settings, what follows from them, and what runs again."""
