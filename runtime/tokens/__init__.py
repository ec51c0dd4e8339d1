"""Conversations and texts as token ids, the same for training, previews, answers and exports."""
