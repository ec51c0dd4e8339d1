"""What a trained model has to show: the smoke test, and figures on rows and tasks."""
