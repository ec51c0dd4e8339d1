"""The lock file, NAME.lock.yaml beside a spec: what exactly a model is made from. Written by `specgen lock`, held by `run`."""
