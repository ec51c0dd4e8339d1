"""Makes a release, and does with it what users do, in empty environments. No part of it."""
