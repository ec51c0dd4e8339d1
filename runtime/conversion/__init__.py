"""From a checkpoint to a folder that anyone loads, and from base and adapter to one model that is proved to be the same."""
