"""What one training step needs, found without the device."""
