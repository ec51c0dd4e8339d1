"""What can be known without torch: the base model's headers, and the rows of the data."""
