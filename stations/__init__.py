"""The field: receivers and recordings as sources, the uplink to a caster, and the `dipper` command."""
