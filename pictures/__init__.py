"""The pictures in docs/, made of real runs. No part of a release."""
