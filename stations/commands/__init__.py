"""The sub-commands of `dipper`, a module each; `stations.cli` mounts them."""
